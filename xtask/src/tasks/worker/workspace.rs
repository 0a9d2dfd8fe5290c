//! Where the run is at home: the workspace that this program was built in, or the current folder where
//! it was copied to another place or machine.

use std::path::{Path, PathBuf};

/// The folder of the run's files and models.
#[derive(Debug, Clone)]
pub struct Home {
    /// The folder.
    pub root: PathBuf,
    /// Whether it is the workspace, whose worker can be built.
    pub is_workspace: bool,
}

impl Home {
    /// Looks where this program is, and where it is called from.
    pub fn find() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = manifest.parent().unwrap_or(manifest);
        let here = std::env::current_dir().unwrap_or_default();
        let program = std::env::current_exe().unwrap_or_default();
        // Cargo says it of what it runs, wherever its target folder is.
        let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
        let is_inside = [&here, &program]
            .iter()
            .any(|path| path.starts_with(workspace));
        let is_there = workspace.join("Cargo.toml").is_file();
        match is_there && (by_cargo || is_inside) {
            true => Self {
                root: workspace.to_owned(),
                is_workspace: true,
            },
            false => Self {
                root: here,
                is_workspace: false,
            },
        }
    }
}
