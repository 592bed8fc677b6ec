//! Rows with the same key, found in bounded memory: keys beyond a number of them are partitioned into temporary files by their hash.

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use twox_hash::XxHash3_64;

use super::scratch_file;
use crate::Error;

/// Keys that are held in memory, 32 bytes each.
const IN_MEMORY: usize = 1 << 19;
/// Temporary files.
const FILES: usize = 32;
/// Bytes of a key in a file: its hash and its row.
const RECORD: usize = 24;

/// A key by its hash of 128 bits, and its row: with 50,000,000 keys, two of different bytes share one with a chance below 1e-23.
type Keyed = (u128, u64);

/// Keys of rows.
pub(super) struct Repeats {
    scratch: PathBuf,
    keys: Vec<Keyed>,
    files: Vec<BufWriter<File>>,
    in_memory: usize,
}

impl Repeats {
    pub(super) fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), keys: Vec::new(), files: Vec::new(), in_memory: IN_MEMORY }
    }

    /// Adds the key of a row.
    pub(super) fn add(&mut self, key: &[u8], row: u64) -> Result<(), Error> {
        let hash = |seed| u128::from(XxHash3_64::oneshot_with_seed(seed, key));
        self.keys.push((hash(0) << 64 | hash(1), row));
        if self.keys.len() >= self.in_memory { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), Error> {
        while self.files.len() < FILES {
            self.files.push(BufWriter::new(scratch_file(&self.scratch)?));
        }
        for (hash, row) in self.keys.drain(..) {
            let file = &mut self.files[(hash >> 123) as usize % FILES];
            let mut record = [0; RECORD];
            record[..16].copy_from_slice(&hash.to_le_bytes());
            record[16..].copy_from_slice(&row.to_le_bytes());
            file.write_all(&record).map_err(Error::scratch("write"))?;
        }
        Ok(())
    }

    /// The number of rows that have the key of an earlier row, and the first of them, each with the first row that has its key.
    pub(super) fn finish(mut self, named: usize) -> Result<(u64, Vec<(u64, u64)>), Error> {
        let (mut count, mut first) = (0, Vec::new());
        if self.files.is_empty() {
            repeats(&mut self.keys, &mut count, &mut first, named);
            return Ok((count, first));
        }
        self.spill()?;
        self.keys = Vec::new();
        for file in self.files {
            let mut file = file.into_inner().map_err(|error| Error::scratch("write")(error.into_error()))?;
            file.rewind().map_err(Error::scratch("read"))?;
            let mut keys = read(BufReader::new(file))?;
            repeats(&mut keys, &mut count, &mut first, named);
        }
        Ok((count, first))
    }
}

fn read(mut file: BufReader<File>) -> Result<Vec<Keyed>, Error> {
    let (mut keys, mut record) = (Vec::new(), [0; RECORD]);
    loop {
        match file.read_exact(&mut record) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(keys),
            Err(error) => return Err(Error::scratch("read")(error)),
        }
        let (mut hash, mut row) = ([0; 16], [0; 8]);
        hash.copy_from_slice(&record[..16]);
        row.copy_from_slice(&record[16..]);
        keys.push((u128::from_le_bytes(hash), u64::from_le_bytes(row)));
    }
}

/// Adds the repeats among keys of which all equal ones are there.
fn repeats(keys: &mut [Keyed], count: &mut u64, first: &mut Vec<(u64, u64)>, named: usize) {
    keys.sort_unstable();
    for equal in keys.chunk_by(|one, other| one.0 == other.0) {
        let [(_, earliest), later @ ..] = equal else { continue };
        *count += later.len() as u64;
        first.extend(later.iter().map(|(_, row)| (*row, *earliest)));
        if first.len() > 2 * named.max(1_000) {
            keep(first, named);
        }
    }
    keep(first, named);
}

fn keep(first: &mut Vec<(u64, u64)>, named: usize) {
    first.sort_unstable();
    first.truncate(named);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_the_same_in_memory_and_in_files() {
        let folder = std::env::temp_dir();
        let of = |in_memory: usize| {
            let mut repeats = Repeats { in_memory, ..Repeats::new(&folder) };
            for row in 0..10_000_u64 {
                let key = if row.is_multiple_of(100) { row / 1_000 } else { 1_000_000 + row };
                repeats.add(&key.to_le_bytes(), row).expect("added");
            }
            repeats.finish(3).expect("finished")
        };
        // Rows 0, 100, ... 900 share a key, and so on.
        assert_eq!(of(usize::MAX), (90, vec![(100, 0), (200, 0), (300, 0)]));
        assert_eq!(of(64), of(usize::MAX));
    }
}
