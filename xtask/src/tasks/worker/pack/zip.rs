//! Archives in the ZIP format, without compression: just enough of it to write one, and to read back
//! what may be anything. Pure.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;

/// The length of the last record, without the comment that may follow.
const END_BYTES: usize = 22;

/// Whoever reads it has to know version 2.0 of the format.
const VERSION: u16 = 20;

/// Says that names are UTF-8.
const UTF8: u16 = 1 << 11;

/// Says that an entry is encrypted.
const ENCRYPTED: u16 = 1;

/// Midnight of the first day that the format knows: what is packed twice is the same.
const DATE: u16 = (1 << 5) | 1;

/// A regular file that everybody may read, as Unix has it.
const MODE: u32 = 0o100_644;

/// Which bits of such a mode tell what it is, and what they are for a regular file.
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// The archive of these files. The sum of their lengths has to be less than 4 GiB.
pub fn write(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = archive.len() as u32;
        let mut common = Vec::new();
        for field in [VERSION, UTF8, 0, 0, DATE] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc32(content), content.len() as u32, content.len() as u32] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        // Nothing extra.
        common.extend([0; 2]);

        archive.extend(LOCAL.to_le_bytes());
        archive.extend(&common);
        archive.extend(name.bytes());
        archive.extend(content);

        directory.extend(CENTRAL.to_le_bytes());
        // Made on Unix, so that the mode is one.
        directory.extend((VERSION | 3 << 8).to_le_bytes());
        directory.extend(&common);
        // No comment, the first disk, no attributes of an MS-DOS file.
        directory.extend([0; 6]);
        directory.extend((MODE << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let start = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(END.to_le_bytes());
    archive.extend([0; 4]);
    for _ in 0..2 {
        archive.extend((files.len() as u16).to_le_bytes());
    }
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// The files of an archive, each with its name, whole and as they were packed. What they come to is no
/// more than the archive's own length.
pub fn read(archive: &[u8]) -> Result<Vec<(&str, &[u8])>> {
    let end = end_record(archive)
        .context("it is no zip file, or it was cut off: the record that ends one is missing")?;
    let mut end = Cursor(end);
    let fields = (|| {
        end.take(10)?;
        Some((end.u16()?, end.u32()? as usize, end.u32()? as usize))
    })();
    let (count, length, start) = fields.context("its last record is cut off")?;
    let directory = start
        .checked_add(length)
        .and_then(|end| archive.get(start..end))
        .context("its list of files is not where its last record says")?;
    let mut directory = Cursor(directory);
    let (mut names, mut files) = (BTreeSet::new(), Vec::new());
    let mut bytes_left = archive.len();
    for number in 1..=count {
        let entry = ArchiveEntry::read(&mut directory)
            .with_context(|| format!("its list of {count} files ends at the {number}."))?;
        let name = std::str::from_utf8(entry.name)
            .with_context(|| format!("the name of its {number}. file is no UTF-8"))?;
        let content = entry.content(archive, bytes_left);
        let content = content.with_context(|| format!("{name:?} in it"))?;
        bytes_left -= content.len();
        ensure!(names.insert(name), "{name:?} is in it twice");
        files.push((name, content));
    }
    Ok(files)
}

/// The record that ends an archive: the last one whose comment is all that follows.
fn end_record(archive: &[u8]) -> Option<&[u8]> {
    let last = archive.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last)
        .rev()
        .map(|at| &archive[at..])
        .find(|record| {
            let comment = u16::from_le_bytes([record[END_BYTES - 2], record[END_BYTES - 1]]);
            record.starts_with(&END.to_le_bytes())
                && record.len() == END_BYTES + usize::from(comment)
        })
}

/// What the list of files says of one.
struct ArchiveEntry<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    crc: u32,
    packed_bytes: u32,
    bytes: u32,
    mode: u32,
    offset: u32,
}

impl<'a> ArchiveEntry<'a> {
    fn read(directory: &mut Cursor<'a>) -> Option<Self> {
        if directory.u32()? != CENTRAL {
            return None;
        }
        directory.take(4)?;
        let (flags, method) = (directory.u16()?, directory.u16()?);
        directory.take(4)?;
        let (crc, packed_bytes, bytes) = (directory.u32()?, directory.u32()?, directory.u32()?);
        let name_bytes = directory.u16()?;
        let more = usize::from(directory.u16()?) + usize::from(directory.u16()?);
        directory.take(4)?;
        let (attributes, offset) = (directory.u32()?, directory.u32()?);
        let name = directory.take(usize::from(name_bytes))?;
        directory.take(more)?;
        Some(Self {
            name,
            flags,
            method,
            crc,
            packed_bytes,
            bytes,
            mode: attributes >> 16,
            offset,
        })
    }

    /// The file itself, which is no longer than `limit`.
    fn content(&self, archive: &'a [u8], limit: usize) -> Result<&'a [u8]> {
        ensure!(self.flags & ENCRYPTED == 0, "is encrypted");
        // What other systems write has no mode.
        let kind = self.mode & FILE_TYPE;
        ensure!(
            kind == REGULAR || kind == 0,
            "is a link, a folder or a device, and no file"
        );
        if self.method != 0 || self.packed_bytes != self.bytes {
            bail!(
                "is compressed, as `worker:report pack` leaves no file: something else packed it"
            );
        }
        ensure!(
            self.bytes as usize <= limit,
            "claims {} bytes, where {limit} are left in all of the archive",
            self.bytes
        );
        let mut local = Cursor(archive.get(self.offset as usize..).unwrap_or_default());
        let content = (|| {
            let signature = local.u32()?;
            local.take(22)?;
            let (name_bytes, extra_bytes) = (local.u16()?, local.u16()?);
            let name = local.take(usize::from(name_bytes))?;
            local.take(usize::from(extra_bytes))?;
            let content = local.take(self.bytes as usize)?;
            (signature == LOCAL && name == self.name).then_some(content)
        })();
        let content = content.context("is not where the list of files says")?;
        ensure!(
            crc32(content) == self.crc,
            "was changed on its way: its checksum is another one"
        );
        Ok(content)
    }
}

/// Bytes of which the first are taken away.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// The checksum of the format, a table entry for each byte.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files() -> Vec<(String, Vec<u8>)> {
        let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
        vec![
            file("events.jsonl", b"{}\n"),
            file("a/worker.log", &[0, 255, 10]),
            file("empty.log", b""),
        ]
    }

    /// Where this stands for the last time: in the list of files, or behind it.
    fn last(archive: &[u8], what: &[u8]) -> usize {
        let found = archive.windows(what.len()).rposition(|part| part == what);
        found.unwrap()
    }

    fn refusal(archive: &[u8]) -> String {
        format!("{:#}", read(archive).unwrap_err())
    }

    #[test]
    fn the_checksum_is_the_formats() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_was_written_is_read_back() {
        for files in [files(), Vec::new()] {
            let archive = write(&files);
            let read = read(&archive).unwrap().into_iter();
            let read: Vec<_> = read
                .map(|(name, content)| (name.to_owned(), content.to_vec()))
                .collect();
            assert_eq!(read, files);
        }
    }

    #[test]
    fn every_archive_that_was_cut_off_is_refused() {
        let archive = write(&files());
        for length in 0..archive.len() {
            assert!(
                read(&archive[..length]).is_err(),
                "{length} bytes were read"
            );
        }
        assert!(refusal(&archive[..40]).contains("cut off"));
    }

    /// How far behind the signature of its record in the list a field stands, what is written over it,
    /// and what is said then.
    #[test]
    fn what_is_no_plain_file_is_refused_by_name() {
        let cases: [(usize, &[u8], &str); 7] = [
            (8, &[1], "is encrypted"),
            (10, &[8], "is compressed"),
            (16, &[1], "its checksum is another one"),
            (20, &[255; 8], "claims 4294967295 bytes"),
            (40, &(0o120_777_u16).to_le_bytes(), "is a link"),
            (40, &(0o040_755_u16).to_le_bytes(), "is a link, a folder"),
            (42, &[1], "is not where"),
        ];
        for (at, bytes, said) in cases {
            let mut archive = write(&files()[..1]);
            let field = last(&archive, &CENTRAL.to_le_bytes()) + at;
            archive[field..field + bytes.len()].copy_from_slice(bytes);
            let refusal = refusal(&archive);
            assert!(refusal.contains(said), "{refusal}");
            assert!(refusal.contains("events.jsonl"), "{refusal}");
        }
    }

    #[test]
    fn files_that_share_their_bytes_come_to_no_more_than_the_archive() {
        let archive = write(&[(String::from("a"), vec![0; 1000])]);
        let entry = last(&archive, &CENTRAL.to_le_bytes());
        let end = last(&archive, &END.to_le_bytes());
        let entries = archive[entry..end].repeat(9);
        let mut bomb = [&archive[..entry], &entries, &archive[end..]].concat();
        let end = last(&bomb, &END.to_le_bytes());
        bomb[end + 10] = 9;
        bomb[end + 12..end + 16].copy_from_slice(&(entries.len() as u32).to_le_bytes());
        let refusal = refusal(&bomb);
        assert!(refusal.contains("claims 1000 bytes, where"), "{refusal}");
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        let file = || (String::from("a.log"), Vec::new());
        let refusal = refusal(&write(&[file(), file()]));
        assert_eq!(refusal, "\"a.log\" is in it twice");
    }

    proptest! {
        #[test]
        fn fuzzed_archives_are_read_or_refused(
            at in 0_usize..400,
            bytes in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut archive = write(&files());
            let at = at.min(archive.len() - bytes.len());
            archive[at..at + bytes.len()].copy_from_slice(&bytes);
            if let Ok(read) = read(&archive) {
                let length: usize = read.iter().map(|(_, content)| content.len()).sum();
                prop_assert!(length <= archive.len());
            }
            let _ = super::read(&bytes);
        }
    }
}
