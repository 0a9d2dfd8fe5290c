//! The folders that runs leave behind: one a run, `latest` beside them, the last few kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tasks::worker::process::platform;

/// How many runs are kept.
const RUNS_KEPT: usize = 20;

/// What the id of a matrix of runs ends with, whose folder holds theirs.
pub const MATRIX_SUFFIX: &str = "-matrix";

/// Names the last run.
const LATEST: &str = "latest";

/// Locked as long as the run lives, so that nobody takes its folder away.
const LOCK: &str = ".lock";

/// The folder of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held until the run is over.
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes the run's folder below `parent`, points `latest` at it and drops the oldest runs.
    pub fn create(parent: &Path, run_id: &str) -> Result<Self> {
        let path = parent.join(run_id);
        fs::create_dir_all(&path)
            .with_context(|| format!("cannot create the run's folder {}", path.display()))?;
        // Absolute, because the worker and the sink may run elsewhere.
        let path = std::path::absolute(&path)?;
        let lock = File::create(path.join(LOCK)).ok();
        let lock = lock.filter(|lock| lock.try_lock().is_ok());
        // Comfort, not evidence: a run goes on without them.
        let beside = format!(".{LATEST}-{run_id}");
        if platform::point_to(parent, LATEST, run_id, &beside).is_err() {
            // Something else may have the name: what could not take it must not stay.
            let _ = fs::remove_file(parent.join(&beside));
        }
        let _ = prune(parent);
        Ok(Self { path, _lock: lock })
    }

    /// Its path, from the root of the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folders of the runs below `parent`, the oldest first.
pub fn runs(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut runs: Vec<PathBuf> = fs::read_dir(parent)?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| entry.file_name().to_str().is_some_and(is_run_id))
        .map(|entry| entry.path())
        .collect();
    // Their names begin with the time, so that their order is that of the alphabet.
    runs.sort();
    Ok(runs)
}

/// Removes all but the last runs. What isn't a run's folder, or belongs to a run that lives, stays.
fn prune(parent: &Path) -> io::Result<()> {
    let runs = runs(parent)?;
    let surplus = runs.len().saturating_sub(RUNS_KEPT);
    for run in runs.iter().take(surplus).filter(|run| !is_alive(run)) {
        fs::remove_dir_all(run)?;
    }
    Ok(())
}

/// `20260131-105423-1a2b3c4d`, with a word behind it where the folder holds more than one run.
fn is_run_id(name: &str) -> bool {
    let name = name.strip_suffix(MATRIX_SUFFIX).unwrap_or(name);
    let parts: Vec<&str> = name.split('-').collect();
    let digits =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let [day, time, id] = parts[..] else {
        return false;
    };
    digits(day, 8)
        && digits(time, 6)
        && id.len() == 8
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_alive(run: &Path) -> bool {
    match File::open(run.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn id(number: usize) -> String {
        format!("20260131-1054{:02}-{number:08x}", number % 60)
    }

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_runs_are_kept_and_so_is_one_that_lives() {
        let parent = scratch("artifacts");
        fs::create_dir_all(parent.join("not-a-run")).unwrap();
        let old_matrix = id(0) + MATRIX_SUFFIX;
        RunFolder::create(&parent, &old_matrix).unwrap();
        let living = RunFolder::create(&parent, &id(0)).unwrap();
        for number in 1..=RUNS_KEPT + 5 {
            RunFolder::create(&parent, &id(number)).unwrap();
        }
        let kept = names(&parent);
        assert!(kept.contains(&id(0)), "a living run was removed: {kept:?}");
        assert!(kept.contains(&String::from("not-a-run")));
        assert!(!kept.contains(&id(1)), "{kept:?}");
        assert!(!kept.contains(&old_matrix), "{kept:?}");
        assert!(kept.contains(&id(RUNS_KEPT + 5)));
        drop(living);
        // A process that another test is starting holds the lock until it runs its own program.
        let deadline = Instant::now() + Duration::from_secs(10);
        for number in RUNS_KEPT + 6.. {
            RunFolder::create(&parent, &id(number)).unwrap();
            if !names(&parent).contains(&id(0)) {
                break;
            }
            assert!(Instant::now() < deadline, "a run that ended is kept");
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_leaves_nothing_beside_it() {
        let parent = scratch("taken");
        fs::create_dir_all(parent.join(LATEST).join("somebody's")).unwrap();
        RunFolder::create(&parent, "20260131-105423-aabbccdd").unwrap();
        let names: Vec<_> = fs::read_dir(&parent)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn latest_is_always_one_of_the_runs_that_race() {
        let parent = scratch("latest");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let parent = &parent;
                scope.spawn(move || RunFolder::create(parent, &id(number)).unwrap());
            }
        });
        let runs = names(&parent);
        let ids = (0..8).map(id).chain([LATEST.to_owned()]);
        let mut expected: Vec<_> = ids.collect();
        expected.sort();
        assert_eq!(runs, expected);
        #[cfg(unix)]
        assert!(parent.join(LATEST).join(LOCK).exists());
        fs::remove_dir_all(parent).unwrap();
    }
}
