//! Git, asked about one folder and nothing else.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::tool;

/// What points git to another repository, index or work tree than those of the folder that it is asked
/// about: hooks run with some of these. `git rev-parse --local-env-vars` lists most of them.
const OF_OTHERS: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// How git ended in this folder, and what it said.
pub fn ask(folder: &Path, arguments: &[&str], limit: Duration) -> io::Result<(ExitStatus, String)> {
    let mut command = Command::new("git");
    for name in OF_OTHERS {
        command.env_remove(name);
    }
    command.arg("-C").arg(folder).args(arguments);
    tool::ask(command, limit)
}

/// Whether the folder's files are in a repository. An unpacked archive may lie within somebody else's,
/// whose revisions say nothing about it.
pub fn keeps(folder: &Path, limit: Duration) -> bool {
    let tracked = ["ls-files", "--error-unmatch", "--", "Cargo.toml"];
    ask(folder, &tracked, limit).is_ok_and(|(status, _)| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn an_archive_in_somebody_elses_repository_is_not_kept_by_it() {
        let outer = std::env::temp_dir().join(format!("git-{}", uuid::Uuid::new_v4()));
        let inner = outer.join("unpacked");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("Cargo.toml"), "").unwrap();
        let git = |arguments: &[&str]| {
            let (status, _) = ask(&outer, arguments, LIMIT).unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        assert!(!keeps(&inner, LIMIT));
        git(&["init", "--quiet"]);
        assert!(!keeps(&inner, LIMIT));
        git(&["add", "unpacked"]);
        assert!(keeps(&inner, LIMIT));
        std::fs::remove_dir_all(&outer).unwrap();
    }
}
