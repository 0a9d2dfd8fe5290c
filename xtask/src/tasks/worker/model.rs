//! The model of a run: which one, and whether its file is a whole GGUF. Nothing is downloaded
//! here: `download` does that, and only when it is asked to.

pub mod catalog;
pub mod download;
mod embedded;
pub mod gguf;
pub mod reference;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use self::catalog::{Catalog, CatalogEntry, MODELS_FOLDER};
use self::reference::ModelReference;
use crate::tasks::worker::config::WorkerTestConfig;
use crate::tasks::worker::record::event::ModelInfo;

/// The model that is downloaded when none is named: small, and it talks.
pub const DEFAULT_DOWNLOAD: &str = "smollm2-135m";

/// The model that a run uses.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its file.
    pub path: PathBuf,
    /// What is told about it.
    pub info: ModelInfo,
    /// What it says by another engine, where that is known.
    pub reference: Option<ModelReference>,
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
    let provided = embedded::provide(&catalog, root);
    let choice = if config.model_is_explicit {
        find_asked_for(&config.model_path, &catalog, root)
    } else {
        choose(&config.model_path, &catalog, root)
    };
    // Where the embedded model can't be written, that concerns those alone who find no other one.
    let choice = choice.or_else(|error| provided.and(Err(error)))?;
    let path = choice.path;
    let summary = gguf::check(&path)
        .map_err(|error| anyhow!("{error:#}\n{}", suggest(&path, &catalog, root)))?;
    let size_bytes = std::fs::metadata(&path)?.len();
    let known = catalog.identify(&path, size_bytes);
    let reference = match (&config.reference, known) {
        (Some(path), _) => Some(ModelReference::load(path)?),
        (None, Some(entry)) => ModelReference::of_catalog(&entry.name)?,
        (None, None) => None,
    };
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
    Ok(Model {
        path,
        info,
        reference,
    })
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
    let is_there = |entry: &&CatalogEntry| path_of(entry, root).is_file();
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
        "using {} instead: {wanted} is not on this machine{}",
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

fn path_of(entry: &CatalogEntry, root: &Path) -> PathBuf {
    entry.path_in(&root.join(MODELS_FOLDER))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::config::DEFAULT_MODEL;
    use sha2::Digest;

    const TINYLLAMA: &str = "tinyllama/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf";
    const SMOLLM2: &str = "smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf";

    /// A workspace with the committed catalog, and empty files where models would be.
    struct Workspace(PathBuf);

    impl Workspace {
        fn with(models: &[&str]) -> Workspace {
            let root = std::env::temp_dir().join(format!("xtask-model-{}", uuid::Uuid::new_v4()));
            for model in models {
                let path = root.join(MODELS_FOLDER).join(model);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            Workspace(root)
        }

        fn choose(&self) -> Result<(PathBuf, String)> {
            let choice = choose(Path::new(DEFAULT_MODEL), &catalog(), &self.0)?;
            let path = choice
                .path
                .strip_prefix(self.0.join(MODELS_FOLDER))
                .unwrap();
            let note = choice.note.unwrap_or_default();
            Ok((path.to_owned(), note))
        }
    }

    impl Drop for Workspace {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// The committed catalog with an embedded model.
    fn catalog() -> Catalog {
        let text = include_str!("../../../../.test-models/catalog.toml");
        let mut catalog = Catalog::parse(text).unwrap();
        catalog.models.retain(|entry| !entry.is_embedded());
        let mut embedded = catalog.models[0].clone();
        embedded.name = String::from("tiny");
        embedded.file = String::from("tiny/tiny.gguf");
        embedded.bytes = 1000;
        embedded.sources = vec![catalog::Source::Repository];
        catalog.models.push(embedded);
        catalog
    }

    #[test]
    fn a_model_that_is_there_needs_no_folder_for_the_embedded_one() {
        let workspace = Workspace::with(&["tiny"]);
        let mut config = WorkerTestConfig::default();
        let refusal = find(&config, &workspace.0).unwrap_err().to_string();
        assert!(
            refusal.contains("cannot write the embedded model") && refusal.contains("--model"),
            "{refusal}"
        );
        let tiny = "../.test-models/tiny/tiny.gguf";
        config.model_path = Path::new(env!("CARGO_MANIFEST_DIR")).join(tiny);
        config.model_is_explicit = true;
        let model = find(&config, &workspace.0).unwrap();
        assert_eq!(model.path, config.model_path);
    }

    #[test]
    fn the_original_default_comes_first() {
        let workspace = Workspace::with(&["tiny/tiny.gguf", SMOLLM2, TINYLLAMA]);
        assert_eq!(
            workspace.choose().unwrap(),
            (TINYLLAMA.into(), String::new())
        );
    }

    #[test]
    fn the_embedded_model_stands_in_and_says_why_and_what_else_there_is() {
        let (path, note) = Workspace::with(&["tiny/tiny.gguf"]).choose().unwrap();
        assert_eq!(path, Path::new("tiny/tiny.gguf"));
        assert_eq!(
            note,
            "using tiny instead: tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf is not on this machine; \
             a larger one: cargo xtask worker:download-model smollm2-135m"
        );
        let (path, note) = Workspace::with(&["tiny/tiny.gguf", SMOLLM2])
            .choose()
            .unwrap();
        assert_eq!(path, Path::new("tiny/tiny.gguf"));
        assert!(
            note.ends_with("a larger one is here: --model smollm2-135m"),
            "{note}"
        );
    }

    #[test]
    fn without_the_embedded_model_whatever_is_there_will_do() {
        let (path, note) = Workspace::with(&[SMOLLM2]).choose().unwrap();
        assert_eq!(path, Path::new(SMOLLM2));
        assert!(note.ends_with("is not on this machine"), "{note}");
        let error = Workspace::with(&[]).choose().unwrap_err().to_string();
        assert!(
            error.contains("cargo xtask worker:download-model smollm2-135m"),
            "{error}"
        );
    }

    #[test]
    fn a_name_is_a_path_first_and_then_a_model_of_the_catalog() {
        let workspace = Workspace::with(&["tiny/tiny.gguf"]);
        let find = |asked_for: &Path| find_asked_for(asked_for, &catalog(), &workspace.0);
        let file = workspace.0.join(MODELS_FOLDER).join("tiny/tiny.gguf");
        assert_eq!(find(&file).unwrap().path, file);
        assert_eq!(find(Path::new("tiny")).unwrap().path, file);
        let error = find(Path::new("smollm2-135m")).unwrap_err().to_string();
        assert!(
            error.contains("cargo xtask worker:download-model smollm2-135m"),
            "{error}"
        );
        let error = find(Path::new("tinyllama.gguf")).unwrap_err().to_string();
        let names = ["tinyllama-1.1b (after cargo", "tiny\n"].map(|name| error.find(name));
        assert!(names[0].is_some() && names[0] < names[1], "{error}");
        let error = find(&workspace.0).unwrap_err().to_string();
        assert!(error.contains("is a folder"), "{error}");
    }

    #[test]
    fn a_known_file_has_the_reference_of_the_catalog() {
        let catalog = catalog();
        let of = |path: &str, size| derive_ref(Path::new(path), size, &catalog);
        assert_eq!(
            of("/x/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", 668_788_096),
            "hf:tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"
        );
        assert_eq!(of("/x/mine.gguf", 668_788_096), "file:mine.gguf");
    }

    #[test]
    fn the_committed_model_is_what_the_catalog_says() {
        let text = include_str!("../../../../.test-models/catalog.toml");
        let catalog = Catalog::parse(text).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let entry = catalog
            .models
            .iter()
            .find(|entry| entry.is_embedded())
            .unwrap();
        let path = path_of(entry, &root);
        let summary = gguf::check(&path).unwrap();
        assert_eq!(summary.architecture, entry.architecture);
        assert_eq!(summary.parameters, entry.parameters);
        assert_eq!(summary.quantisation, entry.quantisation);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, entry.bytes);
        let sha256 = sha2::Sha256::digest(&bytes);
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            sha256,
            entry.sha256,
            "{} was made anew: tell the catalog",
            path.display()
        );
    }

    #[test]
    fn sizes_are_shown_as_people_write_them() {
        let shown = [0, 999, 1000, 98_362_432, 668_788_096, 4_000_000_000].map(size);
        assert_eq!(
            shown,
            ["0 B", "999 B", "1.0 kB", "98.4 MB", "668.8 MB", "4.0 GB"]
        );
    }
}
