//! The model's file: which one, and whether it is one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::config::{DEFAULT_MODEL, WorkerTestConfig};
use super::record::event::ModelInfo;

/// What every GGUF file begins with.
const MAGIC: &[u8; 4] = b"GGUF";

/// Models that stand in for the default one, best first, from the workspace root.
const STAND_INS: [&str; 2] = [
    ".test-models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf",
    ".test-models/tiny/tiny.gguf",
];

/// The model that a run uses.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its file.
    pub path: PathBuf,
    /// What is told about it.
    pub info: ModelInfo,
}

/// Finds the model's file and refuses what isn't a GGUF.
pub fn find(config: &WorkerTestConfig, root: &Path) -> Result<Model> {
    let (path, note) = choose(config, root)?;
    let mut magic = [0; 4];
    let mut file =
        File::open(&path).with_context(|| format!("cannot open the model {}", path.display()))?;
    let read = file.read(&mut magic);
    if read.is_err() || &magic != MAGIC {
        bail!(
            "{} is not a GGUF model: it does not begin with `GGUF`",
            path.display()
        );
    }
    let size_bytes = file.metadata()?.len();
    let model_ref = match config.model_ref.as_str() {
        "" => derive_ref(&path),
        given => given.to_owned(),
    };
    let info = ModelInfo {
        path: path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string(),
        size_bytes,
        model_ref,
        note,
    };
    Ok(Model { path, info })
}

fn choose(config: &WorkerTestConfig, root: &Path) -> Result<(PathBuf, Option<String>)> {
    if config.model_is_explicit {
        return Ok((config.model_path.clone(), None));
    }
    let default = root.join(&config.model_path);
    if default.exists() {
        return Ok((default, None));
    }
    match STAND_INS.iter().find(|path| root.join(path).exists()) {
        Some(path) => {
            let note = format!("{DEFAULT_MODEL} isn't there, so this one stands in for it");
            Ok((root.join(path), Some(note)))
        }
        None => bail!("there is no model at {}", default.display()),
    }
}

fn derive_ref(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("hf:{name}")
}
