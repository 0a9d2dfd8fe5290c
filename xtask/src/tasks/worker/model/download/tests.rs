//! Every fault that a download can meet, tried against a real server: each one ends in the right
//! file or in a clear error, and never in a wrong file.

mod faults;
mod local;
mod server;
mod wheels;

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::*;
use server::{Asked, Reply, Server};

const ETAG: &str = "\"the-right-one\"";

/// Bytes that nobody mistakes for others: every position differs from its neighbours.
fn content(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..300_000).map(|_| next()).collect()
}

fn entry_of(bytes: &[u8]) -> CatalogEntry {
    let sha256: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let text = format!(
        r#"
        [[model]]
        name = "test"
        model_ref = "hf:test"
        file = "test/test.gguf"
        bytes = {}
        sha256 = "{sha256}"
        architecture = "llama"
        parameters = 1
        quantisation = "Q8_0"
        licence = "CC0-1.0"
        [[model.source]]
        kind = "hf"
        repository = "org/model"
        revision = "0123abc"
        file = "test.gguf"
        "#,
        bytes.len()
    );
    Catalog::parse(&text).unwrap().models.remove(0)
}

/// A download of [`content`] into a folder that is gone after the test.
struct Case {
    folder: PathBuf,
    entry: CatalogEntry,
    hub: Hub,
    python: Option<PathBuf>,
    stop: StopFlag,
    accepts_license: bool,
}

impl Case {
    fn new(endpoint: &str) -> Case {
        let name = format!("xtask-download-{}", uuid::Uuid::new_v4());
        Case {
            folder: std::env::temp_dir().join(name),
            entry: entry_of(&content(1)),
            hub: Hub {
                endpoint: endpoint.to_owned(),
                token: None,
                offline: false,
                cache: None,
                tries: 3,
                first_pause: Duration::from_millis(1),
            },
            python: None,
            stop: StopFlag::default(),
            accepts_license: false,
        }
    }

    fn run(&self, force: bool) -> Result<()> {
        let download = Download {
            entry: &self.entry,
            target: self.target(),
            repository: self.folder.join("repository"),
            python: self.python.clone(),
            hub: self.hub.clone(),
            stop: self.stop.clone(),
        };
        download.run(force, self.accepts_license)
    }

    fn target(&self) -> PathBuf {
        self.folder.join(&self.entry.file)
    }

    fn part(&self) -> PathBuf {
        part::with_suffix(&self.target(), ".part")
    }

    /// The right file is there, and nothing else but the lock.
    fn assert_right(&self) {
        assert!(
            std::fs::read(self.target()).unwrap() == content(1),
            "the file is wrong"
        );
        assert_eq!(self.files(), ["test.gguf", "test.gguf.lock"]);
    }

    /// The download fails with each of these words, and no file comes of it.
    fn assert_refused(&self, words: &[&str]) {
        let error = format!("{:#}", self.run(false).unwrap_err());
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!self.target().exists(), "a wrong file came of it");
    }

    fn files(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.target().parent().unwrap()).unwrap();
        let name = |file: std::io::Result<std::fs::DirEntry>| {
            file.unwrap().file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = folder.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
