//! A run as one file, to be sent to somebody and opened there. What comes from elsewhere is not
//! trusted: reports are rendered anew from the recording, and only logs are taken beside it.

mod zip;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::config::ReportTarget;
use super::evidence::{self, EVENTS, RenderConfig};
use super::process::secrets;
use super::record::output::ReportKind;
use super::record::redact::Redactor;
use super::record::replay;
use super::reporter::{file, render};

/// What a pack may come to.
const LIMIT_BYTES: u64 = 512 << 20;

/// How deep logs lie in a run's folder: those of a worker that a check started are one folder further
/// down.
const DEPTH: usize = 3;

/// What is asked of `worker:report pack`.
#[derive(Debug, Clone)]
pub struct PackConfig {
    /// The run's folder, or the recording in it.
    pub run: PathBuf,
    /// The file; beside the run's folder where it isn't named.
    pub file: Option<PathBuf>,
}

/// Packs a recorded run, without secrets.
pub fn pack(config: &PackConfig) -> Result<()> {
    let run = &config.run;
    let folder = fs::canonicalize(run).with_context(|| format!("cannot find {}", run.display()))?;
    let folder = match folder.is_dir() {
        true => folder.as_path(),
        false => folder.parent().unwrap_or(&folder),
    };
    let archive = packed(folder).with_context(|| format!("cannot pack {}", run.display()))?;
    let path = match &config.file {
        Some(path) => path.clone(),
        None => {
            let mut name = folder.file_name().unwrap_or_default().to_owned();
            name.push(".zip");
            folder.with_file_name(name)
        }
    };
    file::write_bytes(&path, &archive)
        .with_context(|| format!("cannot write {}", path.display()))?;
    if path.as_os_str() != "-" {
        println!("{}", path.display());
    }
    Ok(())
}

/// The archive of a run: its recording and logs, cleaned once more, because somebody may have added to
/// them, and the reports of that recording.
fn packed(folder: &Path) -> Result<Vec<u8>> {
    let redactor = secrets::redactor();
    let mut names = Vec::new();
    logs(folder, "", DEPTH, &mut names)?;
    let mut files = Vec::new();
    let mut bytes_left = LIMIT_BYTES;
    for name in std::iter::once(EVENTS.to_owned()).chain(names) {
        let path = folder.join(&name);
        let found =
            fs::metadata(&path).with_context(|| format!("{} is missing", path.display()))?;
        bytes_left = bytes_left.checked_sub(found.len()).with_context(|| {
            let limit_mb = LIMIT_BYTES >> 20;
            format!("with {name} it has more than the {limit_mb} MiB that a pack may have")
        })?;
        let content = fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        let content = match name == EVENTS {
            true => without_secrets(&content, &redactor).into_bytes(),
            false => redactor.clean_bytes(&content).into_owned(),
        };
        files.push((name, content));
    }
    let report = recorded(&files[0].1)?;
    for kind in ReportKind::all().filter(|kind| folder.join(kind.file_name()).exists()) {
        let rendered = render(kind, &report).into_bytes();
        files.push((kind.file_name().to_owned(), rendered));
    }
    Ok(zip::write(&files))
}

/// The names of the logs below a folder, in order. Links lead elsewhere, and aren't followed.
fn logs(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    let cannot_list = || format!("cannot list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot_list)?;
    let mut entries = entries
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(cannot_list)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let (kind, name) = (entry.file_type()?, format!("{prefix}{name}"));
        if kind.is_dir() && depth > 1 {
            logs(&entry.path(), &format!("{name}/"), depth - 1, names)?;
        } else if kind.is_file() && is_log(&name) {
            names.push(name);
        }
    }
    Ok(())
}

/// A recording without secrets, each event by itself, whose strings are told from its syntax.
fn without_secrets(recording: &[u8], redactor: &Redactor) -> String {
    let recording = String::from_utf8_lossy(recording);
    let lines = recording.lines().map(|line| {
        if !redactor.suspects(line) {
            return line.to_owned();
        }
        match serde_json::from_str::<Value>(line) {
            Ok(mut event) => {
                redactor.clean_value(&mut event);
                event.to_string()
            }
            Err(_) => redactor.clean(line).into_owned(),
        }
    });
    lines.map(|line| line + "\n").collect()
}

/// What is asked of `worker:report open`.
#[derive(Debug, Clone)]
pub struct OpenConfig {
    /// The pack.
    pub file: PathBuf,
    /// A folder that isn't there yet; beside the file where it isn't named.
    pub folder: Option<PathBuf>,
}

/// Unpacks a run into a folder of its own, and renders its reports there.
pub fn open(config: &OpenConfig) -> Result<()> {
    let OpenConfig { file, folder } = config;
    let cannot_open = || format!("cannot open {}", file.display());
    let archive = read(file).with_context(cannot_open)?;
    let files = zip::read(&archive)
        .and_then(checked)
        .map_err(|error| anyhow!("{error:#}\n  try: the file as `worker:report pack` made it"))
        .with_context(cannot_open)?;
    let folder = folder.clone().unwrap_or_else(|| file.with_extension(""));
    fs::create_dir(&folder).with_context(|| {
        let folder = folder.display();
        format!(
            "cannot create the folder {folder} for it; \
             `worker:report open {} FOLDER` puts it elsewhere",
            file.display()
        )
    })?;
    let unpacked = unpack(&files, &folder);
    if unpacked.is_err() {
        // Half a run is none.
        let _ = fs::remove_dir_all(&folder);
    }
    unpacked
}

/// All of a file that may be a pack.
fn read(path: &Path) -> Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    ensure!(
        found.is_file(),
        "it is no file; `worker:report pack RUN` makes one"
    );
    ensure!(
        found.len() <= LIMIT_BYTES,
        "it has {} bytes, and a pack has {LIMIT_BYTES} at most",
        found.len()
    );
    Ok(fs::read(path)?)
}

/// The files of an archive, if they are those of a pack.
fn checked<'a>(files: Vec<(&'a str, &'a [u8])>) -> Result<Vec<(&'a str, &'a [u8])>> {
    for (name, _) in &files {
        let is_report = || ReportKind::all().any(|kind| kind.file_name() == *name);
        let is_known = *name == EVENTS || is_report() || is_log(name);
        ensure!(
            is_known,
            "it has {name:?}, which is neither a recording nor a report nor a log inside its folder"
        );
    }
    let recording = files.iter().find(|(name, _)| *name == EVENTS);
    let (_, recording) = recording.with_context(|| {
        format!("it has no {EVENTS}: `worker:report pack RUN` makes what can be opened")
    })?;
    recorded(recording)?;
    Ok(files)
}

/// Whether it names a log in the folder that it is unpacked into, on every system.
fn is_log(name: &str) -> bool {
    let is_plain = |part: &str| {
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_harmless)
    };
    let parts = name.split('/');
    name.ends_with(".log") && name.split('/').all(is_plain) && parts.count() <= DEPTH
}

fn unpack(files: &[(&str, &[u8])], folder: &Path) -> Result<()> {
    let taken = files
        .iter()
        .filter(|(name, _)| *name == EVENTS || is_log(name));
    for (name, content) in taken {
        let path = folder.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(folder))
            .and_then(|()| fs::write(&path, content));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let is_in_it = |kind: &ReportKind| files.iter().any(|(name, _)| *name == kind.file_name());
    let reports = ReportKind::all().filter(is_in_it);
    evidence::render(&RenderConfig {
        events: folder.join(EVENTS),
        reports: reports
            .map(|kind| ReportTarget { kind, path: None })
            .collect(),
    })
}

fn recorded(events: &[u8]) -> Result<super::record::report::RunReport> {
    Ok(replay::fold(String::from_utf8_lossy(events).lines())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDING: &str = include_str!("../../../tests/fixtures/failed-run/events.jsonl");

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("pack-{}", uuid::Uuid::new_v4()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// What is said of a pack with these files, of which nothing stays.
        fn refusal(&self, files: &[(&str, &str)]) -> String {
            let files: Vec<_> = files
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
                .collect();
            self.refusal_of(&zip::write(&files))
        }

        fn refusal_of(&self, archive: &[u8]) -> String {
            let file = self.0.join("run.zip");
            fs::write(&file, archive).unwrap();
            let config = OpenConfig { file, folder: None };
            let refusal = format!("{:#}", open(&config).unwrap_err());
            let left: Vec<_> = fs::read_dir(&self.0).unwrap().flatten().collect();
            assert_eq!(left.len(), 1, "{left:?}");
            refusal
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused_by_name() {
        let scratch = Scratch::new();
        for name in [
            "../evil.log",
            "a/../../evil.log",
            "/tmp/evil.log",
            "C:evil.log",
            "\\\\host\\evil.log",
            "a\\..\\evil.log",
            ".hidden.log",
            "a//b.log",
            "./a.log",
            "a/b/c/d.log",
            "evil.log\n",
            "evil.sh",
            "",
        ] {
            let refusal = scratch.refusal(&[(EVENTS, RECORDING), (name, "evil")]);
            assert!(refusal.contains(&format!("{name:?}")), "{refusal}");
            assert!(
                refusal.contains("run.zip") && refusal.contains("try: "),
                "{refusal}"
            );
        }
    }

    #[test]
    fn what_holds_no_run_is_refused_and_leaves_nothing() {
        let scratch = Scratch::new();
        let refusals = [
            (scratch.refusal(&[("worker.log", "x")]), "no events.jsonl"),
            (scratch.refusal(&[(EVENTS, "x")]), "not a recording"),
            (scratch.refusal_of(b"PK"), "it is no zip file"),
            (
                scratch.refusal(&[(EVENTS, RECORDING), ("a.log", ""), ("a.log/b.log", "")]),
                "cannot write",
            ),
        ];
        for (refusal, said) in refusals {
            assert!(refusal.contains(said), "{refusal}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_not_even_read() {
        let scratch = Scratch::new();
        let path = scratch.0.join("long.zip");
        let file = fs::File::create(&path).unwrap();
        file.set_len(LIMIT_BYTES + 1).unwrap();
        let refusal = read(&path).unwrap_err().to_string();
        assert!(refusal.contains("536870913 bytes"), "{refusal}");
        assert!(
            read(&scratch.0)
                .unwrap_err()
                .to_string()
                .contains("no file")
        );
    }

    #[test]
    fn secrets_are_taken_out_of_events_and_logs_and_so_of_reports() {
        let scratch = Scratch::new();
        let secret = "c2VjcmV0LXRva2Vu";
        let note = r#"{"elapsed_ms":9,"event":"noted","message":"Authorization: Bearer SECRET"}"#;
        let events = RECORDING.to_owned() + &note.replace("SECRET", secret) + "\n";
        fs::write(scratch.0.join(EVENTS), events).unwrap();
        let log = format!("GET http://user:{secret}@host/\n");
        for name in ["worker.log", "auxiliary/worker.log"] {
            let path = scratch.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &log).unwrap();
        }
        for name in ["report.json", "report.html", "notes.txt"] {
            fs::write(scratch.0.join(name), secret).unwrap();
        }
        let archive = packed(&scratch.0).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert!(!text.contains(secret));
        assert!(text.matches("[redacted]").count() >= 3, "{text}");
        let names: Vec<_> = zip::read(&archive).unwrap();
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let expected = [
            EVENTS,
            "auxiliary/worker.log",
            "worker.log",
            "report.json",
            "report.html",
        ];
        assert_eq!(names, expected);
    }
}
