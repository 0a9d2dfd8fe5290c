//! A file that is not whole yet: `NAME.part`, what it is a part of beside it, and the only way to
//! the real name, which leads through size and hash.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::progress::TransferProgress;
use crate::tasks::worker::model::catalog::CatalogEntry;
use crate::tasks::worker::process::platform::FLUSHES_FOLDERS;
use crate::tasks::worker::process::stop::StopFlag;

const BUFFER_BYTES: usize = 256 << 10;

/// The growing file of one download. What is written stays, whatever ends the process.
#[derive(Debug)]
pub struct PartFile {
    target: PathBuf,
    path: PathBuf,
    note: PathBuf,
    file: File,
    len: u64,
    bytes: u64,
    sha256: String,
}

/// The growing file, for a program that writes it.
#[derive(Debug)]
pub struct Growing<'a> {
    /// The folder that it is in.
    pub folder: &'a Path,
    /// Its name there.
    pub part: String,
    /// The name of what says what it is a part of.
    pub note: String,
    /// How many bytes are there.
    pub len: u64,
    /// How many bytes the catalog names.
    pub bytes: u64,
    /// The hash that the catalog names.
    pub sha256: &'a str,
}

impl PartFile {
    /// Opens what an earlier try left behind, or begins anew.
    pub fn open(target: &Path, entry: &CatalogEntry) -> Result<PartFile> {
        let path = with_suffix(target, ".part");
        let note = with_suffix(target, ".part.json");
        let file = open_itself(&path)?;
        let len = file.metadata()?.len();
        Ok(PartFile {
            target: target.to_owned(),
            path,
            note,
            file,
            len,
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

    /// Lets somebody else write the file, and looks at what came of it, also where that failed.
    pub fn fill(&mut self, fill: impl FnOnce(Growing<'_>) -> Result<()>) -> Result<()> {
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let filled = fill(Growing {
            folder: self.path.parent().unwrap_or(Path::new(".")),
            part: name(&self.path),
            note: name(&self.note),
            len: self.len,
            bytes: self.bytes,
            sha256: &self.sha256,
        });
        self.len = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        filled
    }

    /// Throws away what is there. What follows can't be resumed later.
    pub fn restart(&mut self) -> Result<()> {
        remove_if_there(&self.note)?;
        self.file
            .set_len(0)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.len = 0;
        Ok(())
    }

    /// Adds bytes, and refuses what goes beyond the size that the catalog names.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.missing() {
            self.discard()?;
            bail!(
                "received more than the {} bytes that the catalog names; nothing was kept",
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
                "received {} bytes, but the catalog names {}; nothing was kept",
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
                "received the wrong file; nothing was kept\n  expected sha256 {}\n  got      sha256 {got}",
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

impl Drop for PartFile {
    /// Keeps what can be of use, which an empty file isn't.
    fn drop(&mut self) {
        if self.len == 0 {
            let _ = self.discard();
        }
    }
}

/// Opens a file of our own to append to it, and never what a link in its place leads to.
pub fn open_itself(path: &Path) -> Result<File> {
    let is_link = || std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let refuse = || {
        anyhow!(
            "{} is a symbolic link, which a download does not follow\n  try: remove it",
            path.display()
        )
    };
    if is_link() {
        return Err(refuse());
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    // Somebody may have been quicker.
    if is_link() { Err(refuse()) } else { Ok(file) }
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
    let mut progress = TransferProgress::start(doing, Some(file.metadata()?.len()), 0);
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

/// After this the new name survives a power cut.
fn sync_folder_of(path: &Path) -> Result<()> {
    if FLUSHES_FOLDERS {
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot flush the folder {} to the disk", folder.display()))?;
    }
    Ok(())
}
