//! The worker to compare with: a binary, or this repository at another revision, built from a work
//! tree of its own.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::tasks::worker::build;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::git;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::backend::Backend;

/// Where other revisions are checked out and their binaries kept, from the target folder.
const FOLDER: &str = "against";

/// Locked by who checks out and builds in there.
const LOCK: &str = "lock";

/// How long another run may take with that.
const LOCK_LIMIT: Duration = Duration::from_secs(3600);

/// Where they are built, in there: what they have in common is built once.
const BUILD: &str = "build";

/// The longest that git may take.
const GIT_LIMIT: Duration = Duration::from_secs(60);

/// A work tree that goes when this does.
struct Checkout<'run> {
    root: &'run Path,
    path: PathBuf,
}

/// The binary that is meant by a path or by a revision, which is built where it hasn't been yet.
pub fn find(
    root: &Path,
    meant: &str,
    backend: Backend,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<PathBuf> {
    let path = Path::new(meant);
    if path.is_file() {
        return std::path::absolute(path).context("cannot make the path absolute");
    }
    let commit = format!("{meant}^{{commit}}");
    let asked = git(
        root,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ],
    );
    let Some(revision) = asked.ok().filter(|_| git::keeps(root, GIT_LIMIT)) else {
        bail!(
            "--against {meant} is neither a file nor a revision of this repository\n  try: a path, a \
             branch, a tag or a commit"
        );
    };
    let folder = build::target_folder(root).join(FOLDER);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let short = revision.get(..12).unwrap_or(&revision);
    let kept = folder.join(format!(
        "llm-worker-rbee-{short}-{}{}",
        backend.as_str(),
        std::env::consts::EXE_SUFFIX
    ));
    if kept.is_file() {
        return Ok(kept);
    }
    let _lock = take_lock(&folder.join(LOCK), stop)?;
    if kept.is_file() {
        return Ok(kept);
    }
    let checkout = Checkout::make(root, folder.join(short), &revision)?;
    // A target folder of their own: cargo tells two checkouts of a workspace apart by their files'
    // times alone, and would take the binary of the one for the other's.
    let target = folder.join(BUILD);
    let binary = build::build_worker(&checkout.path, Some(&target), backend, journal, stop)?;
    let part = kept.with_extension("part");
    std::fs::copy(&binary, &part)
        .and_then(|_| std::fs::rename(&part, &kept))
        .with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(kept)
}

impl<'run> Checkout<'run> {
    fn make(root: &'run Path, path: PathBuf, revision: &str) -> Result<Self> {
        let checkout = Self { root, path };
        // What a run left behind that was killed.
        checkout.remove();
        let place = checkout.path.to_string_lossy();
        git(root, &["worktree", "add", "--detach", &place, revision])
            .with_context(|| format!("cannot check out {revision}"))?;
        Ok(checkout)
    }

    fn remove(&self) {
        let place = self.path.to_string_lossy();
        let _ = git(self.root, &["worktree", "remove", "--force", &place]);
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = git(self.root, &["worktree", "prune"]);
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Two runs must not build in one work tree. The lock is free when the file is closed.
fn take_lock(path: &Path, stop: &StopFlag) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let waited = stop.wait_for("another run to build a worker", LOCK_LIMIT, || {
        match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    });
    waited.with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let (status, output) = git::ask(root, arguments, GIT_LIMIT).context("cannot run git")?;
    ensure!(
        status.success(),
        "git {} ended with {status}",
        arguments.join(" ")
    );
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_take_turns() {
        let path = std::env::temp_dir().join(format!("lock-{}", uuid::Uuid::new_v4()));
        let stop = StopFlag::default();
        let first = take_lock(&path, &stop).unwrap();
        let waits = StopFlag::default();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take_lock(&path, &waits));
            waits.raise(2);
            assert!(second.join().unwrap().is_err());
        });
        drop(first);
        assert!(take_lock(&path, &stop).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
