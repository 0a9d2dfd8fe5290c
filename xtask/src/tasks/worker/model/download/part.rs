//! A file that is not whole yet: `NAME.part`, what it is a part of beside it, and the only way to
//! the real name, which leads through size and hash.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::progress::Progress;
use crate::tasks::worker::model::catalog::Entry;
use crate::tasks::worker::process::stop::StopFlag;

const BUFFER_BYTES: usize = 256 << 10;

/// The growing file of one download. What is written stays, whatever ends the process.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    note: PathBuf,
    file: File,
    len: u64,
    entity: Option<Entity>,
    bytes: u64,
    sha256: String,
}

/// What the bytes are the beginning of: only the very same thing may be continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Where it was asked for.
    pub url: String,
    /// The server's strong ETag.
    pub etag: String,
    /// What the catalog expected then.
    pub sha256: String,
}

impl Part {
    /// Opens what an earlier try left behind, or begins anew.
    pub fn open(target: &Path, entry: &Entry) -> Result<Part> {
        let path = with_suffix(target, ".part");
        let note = with_suffix(target, ".part.json");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let len = file.metadata()?.len();
        let entity = std::fs::read(&note)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Part {
            target: target.to_owned(),
            path,
            note,
            file,
            len,
            entity,
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
        })
    }

    /// How many bytes are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many bytes the catalog names.
    pub fn expected(&self) -> u64 {
        self.bytes
    }

    /// How many bytes are missing.
    pub fn missing(&self) -> u64 {
        self.bytes.saturating_sub(self.len)
    }

    /// Whether that file is what this one has to become.
    pub fn is_matched_by(&self, path: &Path, stop: &StopFlag) -> Result<bool> {
        let is_as_long = std::fs::metadata(path)?.len() == self.bytes;
        Ok(is_as_long && sha256_of(path, "checking", stop)? == self.sha256)
    }

    /// The ETag under which the rest may be asked for at `url`; none if the file has to begin anew.
    pub fn resumable_at(&self, url: &str) -> Option<&str> {
        let entity = self.entity.as_ref()?;
        let same = entity.url == url && entity.sha256 == self.sha256;
        (same && self.len > 0 && self.len <= self.bytes).then_some(entity.etag.as_str())
    }

    /// Throws away what is there. What follows is the beginning of `url` under this strong ETag;
    /// without one it can't be resumed later.
    pub fn restart(&mut self, url: &str, etag: Option<&str>) -> Result<()> {
        self.entity = None;
        remove_if_there(&self.note)?;
        self.file
            .set_len(0)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.len = 0;
        if let Some(etag) = etag {
            let entity = Entity {
                url: url.to_owned(),
                etag: etag.to_owned(),
                sha256: self.sha256.clone(),
            };
            std::fs::write(&self.note, serde_json::to_vec(&entity)?)
                .with_context(|| format!("cannot write {}", self.note.display()))?;
            self.entity = Some(entity);
        }
        Ok(())
    }

    /// Adds bytes, and refuses what goes beyond the size that the catalog names.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.missing() {
            self.discard()?;
            bail!(
                "more came than the {} bytes that the catalog names; nothing was kept",
                self.bytes
            );
        }
        self.file
            .write_all(bytes)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes the real file of it if size and hash are right, and keeps nothing otherwise.
    pub fn finish(mut self, stop: &StopFlag) -> Result<()> {
        if self.len != self.bytes {
            self.discard()?;
            bail!(
                "{} bytes came, and the catalog names {}; nothing was kept",
                self.len,
                self.bytes
            );
        }
        self.file
            .sync_all()
            .context("cannot flush the file to the disk")?;
        let got = sha256_of(&self.path, "checking", stop)?;
        if got != self.sha256 {
            self.discard()?;
            bail!(
                "the wrong file came, and nothing was kept\n  expected sha256 {}\n  got      sha256 {got}",
                self.sha256
            );
        }
        std::fs::rename(&self.path, &self.target)
            .with_context(|| format!("cannot rename it to {}", self.target.display()))?;
        remove_if_there(&self.note)?;
        sync_folder_of(&self.target)
    }

    fn discard(&mut self) -> Result<()> {
        remove_if_there(&self.path)?;
        remove_if_there(&self.note)
    }
}

impl Drop for Part {
    /// Keeps what can be of use, which an empty file isn't.
    fn drop(&mut self) {
        if self.len == 0 {
            let _ = self.discard();
        }
    }
}

/// Removes an unfinished download of `target`.
pub fn discard(target: &Path) -> Result<()> {
    remove_if_there(&with_suffix(target, ".part"))?;
    remove_if_there(&with_suffix(target, ".part.json"))
}

/// How much of an unfinished download of `target` is there.
pub fn len_of_part(target: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(with_suffix(target, ".part")).ok()?;
    (metadata.len() > 0).then_some(metadata.len())
}

/// `path` with something behind its whole name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The hash of a file, in lower-case hexadecimal digits.
pub fn sha256_of(path: &Path, doing: &str, stop: &StopFlag) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut progress = Progress::start(doing, Some(file.metadata()?.len()), 0);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    loop {
        stop.check()?;
        let count = file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        done += count as u64;
        progress.at(done);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// After this the new name survives a power cut. Windows has no such call, and needs none.
fn sync_folder_of(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot flush the folder {} to the disk", folder.display()))?;
    }
    Ok(())
}
