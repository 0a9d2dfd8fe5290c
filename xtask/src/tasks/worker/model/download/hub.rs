//! Files of the Hugging Face Hub: from its cache on this machine, or over HTTP with resumption.
//!
//! Whether the bytes are right is not decided here: `part` holds them to the catalog.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::fetch::{FetchOrder, Fetcher};
use super::part::PartFile;
use super::progress::TransferProgress;
use crate::tasks::worker::process::stop::StopFlag;

/// The longest that a server may make us wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The hub as this user has configured it.
#[derive(Clone)]
pub struct Hub {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`. Never shown, and for the endpoint alone.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: the cache, or nothing.
    pub offline: bool,
    /// `HF_HUB_CACHE`, or the folder below `HF_HOME` or the user's cache folder.
    pub cache: Option<PathBuf>,
    /// How often a failure that may pass is tried again.
    pub tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pub first_pause: Duration,
}

/// One file there.
#[derive(Debug, Clone, Copy)]
pub struct HubFile<'a> {
    /// "organisation/name".
    pub repository: &'a str,
    /// A commit.
    pub revision: &'a str,
    /// The path inside the repository.
    pub file: &'a str,
}

impl Hub {
    /// The hub that the environment names.
    pub fn from_env() -> Hub {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let user_cache = || {
            let home = std::env::home_dir().map(|home| home.join(".cache"));
            folder("XDG_CACHE_HOME").or(home)
        };
        let home = folder("HF_HOME").or_else(|| Some(user_cache()?.join("huggingface")));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let truthy =
            |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()),
            offline: set("HF_HUB_OFFLINE").is_some_and(truthy),
            cache: folder("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))),
            tries: 5,
            first_pause: Duration::from_millis(500),
        }
    }

    /// Fills `part` with the file, from the cache where it is there, else from the server.
    pub fn fetch(&self, file: HubFile, part: &mut PartFile, fetcher: &Fetcher) -> Result<()> {
        if let Some(cached) = self.cached(file, part, &fetcher.stop)? {
            return copy(&cached, part, fetcher);
        }
        ensure!(
            !self.offline,
            "HF_HUB_OFFLINE is set, and the Hugging Face cache does not have the file\n  try: unset HF_HUB_OFFLINE"
        );
        part.fill(|growing| {
            let order = FetchOrder {
                url: self.url(file),
                token: self.token.as_deref(),
                part: &growing.part,
                note: &growing.note,
                bytes: growing.bytes,
                sha256: growing.sha256,
                tries: self.tries,
                first_pause_s: self.first_pause.as_secs_f64(),
                longest_pause_s: LONGEST_PAUSE.as_secs_f64(),
            };
            fetcher.fetch(&order, growing.folder, growing.len)
        })
    }

    /// Where the file is asked for.
    fn url(&self, file: HubFile) -> String {
        let HubFile {
            repository,
            revision,
            file,
        } = file;
        format!("{}/{repository}/resolve/{revision}/{file}", self.endpoint)
    }

    /// The file in the Hugging Face cache, if it is there and right.
    fn cached(&self, file: HubFile, part: &PartFile, stop: &StopFlag) -> Result<Option<PathBuf>> {
        let Some(cache) = &self.cache else {
            return Ok(None);
        };
        let folder = format!("models--{}", file.repository.replace('/', "--"));
        let path = cache
            .join(folder)
            .join("snapshots")
            .join(file.revision)
            .join(file.file);
        if !path.is_file() {
            return Ok(None);
        }
        if part.is_matched_by(&path, stop)? {
            return Ok(Some(path));
        }
        println!("{} is damaged and was skipped", path.display());
        Ok(None)
    }
}

impl std::fmt::Debug for Hub {
    /// Says whether there is a token, and never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Takes a copy of the cached file; its hash is checked like that of any other.
fn copy(from: &std::path::Path, part: &mut PartFile, fetcher: &Fetcher) -> Result<()> {
    println!(
        "Copying it from the Hugging Face cache ({})",
        from.display()
    );
    let context = || format!("cannot read {}", from.display());
    let mut file = std::fs::File::open(from).with_context(context)?;
    part.restart()?;
    let mut progress = TransferProgress::start("copying", Some(part.expected()), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        fetcher.stop.check()?;
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(()),
            count => part.append(&buffer[..count])?,
        }
        progress.at(part.len());
    }
}
