//! The worker to compare with: a binary, or this repository at another revision, built from a checkout
//! of its own.

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

/// A checkout that goes when this does.
struct Checkout(PathBuf);

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
    let binary = build::build_worker(&checkout.0, Some(&target), backend, journal, stop)?;
    let part = kept.with_extension("part");
    std::fs::copy(&binary, &part)
        .and_then(|_| std::fs::rename(&part, &kept))
        .with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(kept)
}

impl Checkout {
    /// A repository of its own that borrows the objects of this one: into that, which may not be
    /// writable, nothing is written.
    fn make(root: &Path, path: PathBuf, revision: &str) -> Result<Self> {
        let checkout = Self(path);
        // What a run left behind that was killed.
        checkout.remove();
        let place = checkout.0.as_path();
        let borrow = || {
            std::fs::create_dir_all(place)?;
            git(place, &["init", "--quiet"])?;
            let objects = root.join(git(root, &["rev-parse", "--git-path", "objects"])?);
            let objects = format!("{}\n", std::path::absolute(objects)?.display());
            std::fs::write(place.join(".git/objects/info/alternates"), objects)?;
            git(place, &["checkout", "--quiet", "--detach", revision])
        };
        borrow().with_context(|| format!("cannot check out {revision}"))?;
        Ok(checkout)
    }

    fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Two runs must not build in one checkout. The lock is free when the file is closed.
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

    /// Every file below a folder.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut all = Vec::new();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                all.extend(files(&path));
            }
            all.push(path);
        }
        all.sort();
        all
    }

    #[test]
    fn another_revision_is_checked_out_without_a_trace_in_the_repository() {
        let folder = std::env::temp_dir().join(format!("revisions-{}", uuid::Uuid::new_v4()));
        let root = folder.join("it's here & $HOME");
        std::fs::create_dir_all(&root).unwrap();
        git(&root, &["init", "--quiet"]).unwrap();
        let commit = |text: &str| {
            std::fs::write(root.join("file"), text).unwrap();
            git(&root, &["add", "file"]).unwrap();
            let who = ["-c", "user.name=n", "-c", "user.email=e"];
            let commit = ["commit", "--quiet", "--no-gpg-sign", "-m", text];
            git(&root, &[&who[..], &commit[..]].concat()).unwrap();
            git(&root, &["rev-parse", "HEAD"]).unwrap()
        };
        let first = commit("first");
        commit("second");
        let before = files(&root);
        let place = folder.join("against");
        for _ in 0..2 {
            let checkout = Checkout::make(&root, place.clone(), &first).unwrap();
            assert_eq!(
                std::fs::read_to_string(place.join("file")).unwrap(),
                "first"
            );
            assert_eq!(git(&place, &["rev-parse", "HEAD"]).unwrap(), first);
            assert_eq!(files(&root), before);
            // As a run leaves it that is killed.
            std::mem::forget(checkout);
        }
        drop(Checkout(place.clone()));
        assert!(!place.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

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
