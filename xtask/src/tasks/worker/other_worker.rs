//! The worker to compare with: a binary, or this repository at another revision, built from a work
//! tree of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::tasks::worker::build;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::process::tool;
use crate::tasks::worker::record::backend::Backend;

/// Where other revisions are checked out and their binaries kept, from the workspace root.
const FOLDER: &str = "target/against";

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
    let Ok(revision) = asked else {
        bail!(
            "--against {meant} is neither a file nor a revision of this repository\n  try: a path, a \
             branch, a tag or a commit"
        );
    };
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let short = revision.get(..12).unwrap_or(&revision);
    let kept = folder.join(format!(
        "llm-worker-rbee-{short}-{}{}",
        backend.as_str(),
        std::env::consts::EXE_SUFFIX
    ));
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

fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(arguments);
    let (status, output) = tool::ask(command, GIT_LIMIT).context("cannot run git")?;
    ensure!(
        status.success(),
        "git {} ended with {status}",
        arguments.join(" ")
    );
    Ok(output)
}
