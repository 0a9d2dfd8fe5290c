//! The model of a run: which one, and whether its file is a whole GGUF. Nothing is downloaded
//! here: `download` does that, and only when it is asked to.

pub mod catalog;
pub mod download;
mod gguf;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use self::catalog::{Catalog, Entry, MODELS_FOLDER};
use super::config::WorkerTestConfig;
use super::record::event::ModelInfo;

/// The model that is downloaded when none is named: small, and it talks.
pub const DEFAULT_DOWNLOAD: &str = "smollm2-135m";

/// The model that a run uses.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its file.
    pub path: PathBuf,
    /// What is told about it.
    pub info: ModelInfo,
}

/// What was chosen, and why where that isn't obvious.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    path: PathBuf,
    note: Option<String>,
}

/// Finds the model's file and refuses what isn't a whole GGUF.
pub fn find(config: &WorkerTestConfig, root: &Path) -> Result<Model> {
    let catalog = Catalog::load(root)?;
    let choice = if config.model_is_explicit {
        find_asked_for(&config.model_path, &catalog, root)?
    } else {
        choose(&config.model_path, &catalog, root)?
    };
    let path = choice.path;
    let summary = gguf::check(&path)
        .map_err(|error| anyhow!("{error:#}\n{}", suggest(&path, &catalog, root)))?;
    let size_bytes = std::fs::metadata(&path)?.len();
    let model_ref = match config.model_ref.as_str() {
        "" => derive_ref(&path, size_bytes, &catalog),
        given => given.to_owned(),
    };
    let shown = path.strip_prefix(root).unwrap_or(&path);
    let info = ModelInfo {
        path: shown.display().to_string(),
        size_bytes,
        model_ref,
        architecture: summary.architecture,
        parameters: summary.parameters,
        quantisation: summary.quantisation,
        note: choice.note,
    };
    Ok(Model { path, info })
}

/// A size as people write it: "98.4 MB".
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let bytes = bytes as f64;
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

/// `--model` is a path where a file is there, else a name of the catalog.
fn find_asked_for(asked_for: &Path, catalog: &Catalog, root: &Path) -> Result<Choice> {
    let found = |path| Ok(Choice { path, note: None });
    if asked_for.is_file() {
        return found(asked_for.to_owned());
    }
    let Some(entry) = asked_for.to_str().and_then(|name| catalog.get(name)) else {
        let suggestion = suggest(asked_for, catalog, root);
        let what = if asked_for.exists() {
            "is a folder"
        } else {
            "does not exist"
        };
        bail!(
            "the model {} {what}, and the catalog has no model of that name\n{suggestion}",
            asked_for.display()
        );
    };
    let path = path_of(entry, root);
    if !path.exists() {
        bail!(
            "the model {} is not on this machine: there is no {}\n  try: {}",
            entry.name,
            path.display(),
            entry.download_command()
        );
    }
    found(path)
}

/// The model of the original script, or else what this repository carries: that is always there.
fn choose(default: &Path, catalog: &Catalog, root: &Path) -> Result<Choice> {
    let default = root.join(default);
    if default.exists() {
        return Ok(Choice {
            path: default,
            note: None,
        });
    }
    let is_there = |entry: &&Entry| path_of(entry, root).is_file();
    let embedded = catalog
        .models
        .iter()
        .filter(|entry| entry.is_embedded())
        .find(is_there);
    let Some(entry) = embedded.or_else(|| catalog.models.iter().find(is_there)) else {
        bail!(
            "there is no model on this machine\n  try: cargo xtask worker:download-model {DEFAULT_DOWNLOAD}"
        );
    };
    let wanted = default
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let larger = catalog
        .get(DEFAULT_DOWNLOAD)
        .filter(|larger| larger.bytes > entry.bytes)
        .map(|larger| match is_there(&larger) {
            true => format!("; a larger one is here: --model {}", larger.name),
            false => format!("; a larger one: {}", larger.download_command()),
        });
    let note = format!(
        "{} stands in: {wanted} is not on this machine{}",
        entry.name,
        larger.unwrap_or_default()
    );
    Ok(Choice {
        path: path_of(entry, root),
        note: Some(note),
    })
}

/// The names that `wanted` may have meant, and how to come by them.
fn suggest(wanted: &Path, catalog: &Catalog, root: &Path) -> String {
    let mut text = String::from("  nearest models of the catalog:");
    for entry in catalog.nearest(&wanted.to_string_lossy()) {
        text += &match path_of(entry, root).exists() {
            true => format!("\n    --model {}", entry.name),
            false => format!(
                "\n    --model {} (after {})",
                entry.name,
                entry.download_command()
            ),
        };
    }
    text
}

fn path_of(entry: &Entry, root: &Path) -> PathBuf {
    root.join(MODELS_FOLDER).join(&entry.file)
}

/// The catalog's name for a file that it knows; others are called after their file.
fn derive_ref(path: &Path, size_bytes: u64, catalog: &Catalog) -> String {
    match catalog.identify(path, size_bytes) {
        Some(entry) => entry.model_ref.clone(),
        None => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("file:{name}")
        }
    }
}
