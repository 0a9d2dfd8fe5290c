//! Reports in files: rendered when the run is over, each by a reporter of its own, so that one that
//! fails takes no other with it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Reporter, render};
use crate::tasks::worker::record::event::{Event, Stage};
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::report::RunReport;

/// Means standard output where a path is asked for.
const STDOUT: &str = "-";

/// Writes one report to one place.
#[derive(Debug)]
pub struct FileReport {
    kind: ReportKind,
    path: PathBuf,
}

impl FileReport {
    /// A report of this kind at `path`; `-` is standard output.
    pub fn new(kind: ReportKind, path: PathBuf) -> Self {
        Self { kind, path }
    }
}

impl Reporter for FileReport {
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()> {
        match event.kind.stage() {
            Stage::Over => write(self.kind, &self.path, report),
            // What reproduces the run is wanted most where nothing comes after the start.
            Stage::WorkerKnown if self.kind == ReportKind::Repro => {
                write(self.kind, &self.path, report)
            }
            Stage::WorkerKnown | Stage::UnderWay => Ok(()),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        eprintln!("warning: {} is missing: {error}", self.path.display());
    }
}

/// Renders a report and writes it to `path`, `-` being standard output.
pub fn write(kind: ReportKind, path: &Path, report: &RunReport) -> io::Result<()> {
    write_text(kind, path, &render(kind, report))
}

/// Writes a rendered report to `path`, `-` being standard output.
pub fn write_text(kind: ReportKind, path: &Path, text: &str) -> io::Result<()> {
    replace(path, text.as_bytes(), kind == ReportKind::Repro)
}

/// Writes what is no text to `path`, `-` being standard output.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], is_program: bool) -> io::Result<()> {
    if path.as_os_str() == STDOUT {
        return io::stdout().write_all(bytes);
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    // What isn't a file, such as a device or a pipe, can't be replaced by one.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, bytes);
    }
    // In one step, so that nobody reads half a report.
    let mut beside = path.as_os_str().to_owned();
    // A new file of this run's own: no link is followed, and no other run writes to it.
    beside.push(format!(".{}.part", uuid::Uuid::new_v4().simple()));
    let beside = PathBuf::from(beside);
    let written = fs::File::create_new(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| match is_program {
            true => make_executable(&beside),
            false => Ok(()),
        })
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_and_no_panic() {
        let error = write(
            ReportKind::Json,
            Path::new("/dev/full"),
            &RunReport::default(),
        );
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn runs_that_write_to_one_path_leave_one_whole_report_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("shared-{}", uuid::Uuid::new_v4()));
        let path = folder.join("report.txt");
        let texts: Vec<String> = ["a", "b", "c", "d"]
            .map(|letter| letter.repeat(1 << 20))
            .into();
        std::thread::scope(|scope| {
            for text in &texts {
                let path = &path;
                scope.spawn(move || write_text(ReportKind::Json, path, text).unwrap());
            }
        });
        assert!(texts.contains(&fs::read_to_string(&path).unwrap()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_replaced_and_not_followed() {
        let folder = std::env::temp_dir().join(format!("linked-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("report.txt"), folder.join("somebody's"));
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        write_text(ReportKind::Json, &path, "ours").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_report_replaces_an_older_one_and_makes_its_folder() {
        let folder = std::env::temp_dir().join(format!("reports-{}", uuid::Uuid::new_v4()));
        let path = folder.join("deep/report.json");
        for _ in 0..2 {
            write(ReportKind::Json, &path, &RunReport::default()).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, render(ReportKind::Json, &RunReport::default()));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
