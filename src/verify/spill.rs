//! More records than fit into memory, in parts that do.
//!
//! In: records, each with the number of its part. Out: one part after the other. The first few MiB
//! stay in memory; the rest goes to one file, which has no name from the moment it is there: it is
//! gone with the process, however that ends. It must stay true that memory is bounded by a block
//! for each part and [`MEMORY_BLOCKS`], and that what is in the file is nobody else's to read.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::record::{RECORD_BYTES, Record};
use crate::error::{Error, Result};

/// Records written at once.
const BLOCK_RECORDS: usize = 146;
const BLOCK_BYTES: usize = BLOCK_RECORDS * RECORD_BYTES;
/// Blocks that are kept in memory: 4 MiB. What is small needs no file, nor a disk to write to.
const MEMORY_BLOCKS: usize = 512;
/// Names tried for the file.
const NAMES_MAX: u32 = 16;

/// The records.
pub(super) struct Spill {
    parts: Vec<Part>,
    in_memory: usize,
    file: Option<File>,
    /// Bytes of the file.
    pub bytes: u64,
}

#[derive(Default)]
struct Part {
    buffer: Vec<u8>,
    blocks: Vec<Block>,
    records: usize,
}

enum Block {
    Memory(Vec<u8>),
    /// Where it begins.
    File(u64),
}

impl Spill {
    pub fn new(parts: usize) -> Self {
        let parts = std::iter::repeat_with(Part::default).take(parts).collect();
        Self { parts, in_memory: 0, file: None, bytes: 0 }
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The part for a key, whatever in the key it is that varies.
    pub fn part_of(&self, key: u128) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(key);
        let parts = u64::try_from(self.parts.len()).unwrap_or(1).max(1);
        usize::try_from(hasher.finish() % parts).unwrap_or(0)
    }

    /// Records of a part.
    pub fn len(&self, part: usize) -> usize {
        self.parts.get(part).map_or(0, |part| part.records)
    }

    /// Adds a record to a part.
    pub fn push(&mut self, part: usize, record: &Record) -> Result<()> {
        let Some(part) = self.parts.get_mut(part) else { return Ok(()) };
        record.write(&mut part.buffer);
        part.records += 1;
        if part.buffer.len() < BLOCK_BYTES {
            return Ok(());
        }
        if self.in_memory < MEMORY_BLOCKS {
            self.in_memory += 1;
            part.blocks.push(Block::Memory(std::mem::take(&mut part.buffer)));
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless()?),
        };
        file.write_all_at(&part.buffer, self.bytes).map_err(full)?;
        part.blocks.push(Block::File(self.bytes));
        self.bytes += u64::try_from(part.buffer.len()).unwrap_or(0);
        part.buffer.clear();
        Ok(())
    }

    /// How many blocks a part has.
    pub fn blocks(&self, part: usize) -> usize {
        // The last is not full yet.
        self.parts.get(part).map_or(0, |part| part.blocks.len() + 1)
    }

    /// One block of a part: some records, in the order in which they came.
    pub fn block(&self, part: usize, block: usize) -> Result<Vec<Record>> {
        let Some(part) = self.parts.get(part) else { return Ok(Vec::new()) };
        let records = |bytes: &[u8]| bytes.chunks_exact(RECORD_BYTES).map(Record::read).collect();
        match (part.blocks.get(block), &self.file) {
            (Some(Block::Memory(bytes)), _) => Ok(records(bytes)),
            (Some(Block::File(at)), Some(file)) => {
                let mut bytes = vec![0; BLOCK_BYTES];
                file.read_exact_at(&mut bytes, *at).map_err(full)?;
                Ok(records(&bytes))
            }
            _ => Ok(records(&part.buffer)),
        }
    }

    /// Shows each record of a part, in the order in which they came.
    pub fn each(&self, part: usize, mut show: impl FnMut(Record) -> Result<()>) -> Result<()> {
        (0..self.blocks(part))
            .try_for_each(|block| self.block(part, block)?.into_iter().try_for_each(&mut show))
    }

    /// A whole part.
    pub fn load(&self, part: usize) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(self.len(part));
        self.each(part, |record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }
}

/// A file that only this process can reach.
fn nameless() -> Result<File> {
    let folder = std::env::temp_dir();
    let failed = |error| {
        let what = format!("cannot create a temporary file in {}", folder.display());
        Error::definite(what)
            .because(error)
            .hint("TMPDIR names another folder; 112 bytes an event are written to it")
    };
    let mut last = None;
    for n in 0..NAMES_MAX {
        let path = folder.join(format!("walrelay-verify-{}-{n}", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path).map_err(failed)?;
                return Ok(file);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(failed(last.unwrap_or_else(|| std::io::Error::other("no name is free"))))
}

fn full(error: std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::definite(format!("cannot use a temporary file in {}", folder.display()))
        .because(error)
        .hint("TMPDIR names another folder; 112 bytes an event are written to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_part_by_part_from_memory_and_from_the_file() {
        let mut spill = Spill::new(4);
        // More than what stays in memory, and no whole number of blocks.
        let total = 100_003u64;
        for n in 0..total {
            let record = Record { key: u128::from(n), a: n, ..Record::default() };
            spill.push(usize::try_from(n % 4).unwrap(), &record).unwrap();
        }
        assert!(spill.bytes > 0 && spill.in_memory == MEMORY_BLOCKS);
        let mut seen = 0;
        for part in 0..4 {
            let records = spill.load(part).unwrap();
            assert_eq!(records.len(), spill.len(part));
            let part = u64::try_from(part).unwrap();
            for (n, record) in (0..).zip(&records) {
                assert_eq!(record.a, n * 4 + part);
            }
            seen += records.len();
        }
        assert_eq!(u64::try_from(seen).unwrap(), total);
        let name = format!("walrelay-verify-{}-", std::process::id());
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
        let is_ours =
            |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&name);
        assert!(!left.flatten().any(|entry| is_ours(&entry)), "the file has no name");
    }

    #[test]
    fn keys_spread_whatever_varies_in_them() {
        for shift in [0, 20, 64, 100] {
            let mut spill = Spill::new(16);
            for n in 0..16_000u128 {
                let part = spill.part_of(n << shift);
                spill.push(part, &Record::default()).unwrap();
            }
            for part in 0..16 {
                assert!((500..1_500).contains(&spill.len(part)), "{shift}: {}", spill.len(part));
            }
        }
    }
}
