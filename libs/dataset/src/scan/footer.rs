use ::parquet::{errors::ParquetError, file::reader::ChunkReader};

use super::compact::Compact;
use crate::Error;

/// Bytes of a footer at most. Metadata takes many times more memory than on disk.
const FOOTER_BYTES: usize = 64 << 20;
/// Row groups times columns at most; each takes some 500 bytes of memory.
const CHUNKS: usize = 1 << 18;
/// Row groups at most: the decoder numbers them with 16 bits.
const GROUPS: usize = 1 << 15;
/// Levels of nesting at most. The decoder recurses once for each.
const DEPTH: usize = 64;
/// Bytes of the paths of all columns at most. A path repeats the names of the groups that the column is in.
const PATH_BYTES: usize = 32 << 20;
/// Elements of a schema at most, groups and columns.
const ELEMENTS: usize = 1 << 16;

/// The length of the footer and the magic number, at the end of a file.
const TAIL: usize = 8;

/// Checks what the footer of a Parquet file claims, before the decoder allocates for it, recurses into it, or aborts the process.
///
/// # Errors
/// A footer that is damaged, or larger or more deeply nested than those of usable files. One that the decoder refuses itself is left
/// to the decoder.
pub(super) fn check(file: &impl ChunkReader) -> Result<(), Error> {
    let Some(at) = file.len().checked_sub(TAIL as u64) else { return Ok(()) };
    let tail = file.get_bytes(at, TAIL).map_err(Error::Parquet)?;
    let Some((length, b"PAR1")) = tail.split_first_chunk::<4>() else { return Ok(()) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FOOTER_BYTES {
        return Err(refused(format!("its footer has {length} bytes, the limit is {FOOTER_BYTES}")));
    }
    let Some(start) = at.checked_sub(length as u64) else { return Ok(()) };
    let bytes = file.get_bytes(start, length).map_err(Error::Parquet)?;
    let mut problem = None;
    let parsed = Compact::new(&bytes).fields(|value, id, kind| match id {
        2 => check_schema(value).map(|found| problem = problem.take().or(found)),
        4 => check_groups(value).map(|found| problem = problem.take().or(found)),
        _ => value.skip(kind),
    });
    match (problem, parsed) {
        (Some(problem), _) => Err(refused(problem)),
        (None, Some(())) => Ok(()),
        (None, None) => Err(refused("its footer is damaged".to_owned())),
    }
}

fn refused(problem: String) -> Error {
    Error::Parquet(ParquetError::General(format!("{problem}: write the file again, in several files if it is large")))
}

/// Checks the list of the elements of a schema: a tree, each element before its children. Returns what is wrong.
fn check_schema(list: &mut Compact<'_>) -> Option<Option<String>> {
    let (elements, _) = list.list()?;
    if elements > ELEMENTS {
        return Some(Some(format!("its schema has {elements} elements, the limit is {ELEMENTS}")));
    }
    // Of each group that is not complete: the children to come, and the bytes of its path.
    let mut groups: Vec<(i64, usize)> = Vec::new();
    let mut path_bytes = 0;
    for _ in 0..elements {
        let (mut name, mut children) = (0, 0);
        list.fields(|value, id, kind| match id {
            4 => value.binary().map(|text| name = text.len()),
            5 => value.integer().map(|given| children = given),
            _ => value.skip(kind),
        })?;
        let path = groups.last().map_or(0, |(_, path)| path + 1) + name;
        if let Some((left, _)) = groups.last_mut() {
            *left -= 1;
        }
        path_bytes += path;
        groups.push((children, path));
        if groups.len() > DEPTH || path_bytes > PATH_BYTES {
            let limits = format!("the limits are {DEPTH} levels and {PATH_BYTES} bytes of names");
            return Some(Some(format!("its columns are nested too deeply, or their names are too long: {limits}")));
        }
        while groups.pop_if(|(left, _)| *left <= 0).is_some() {}
    }
    Some(None)
}

/// Checks the list of row groups. Returns what is wrong.
fn check_groups(list: &mut Compact<'_>) -> Option<Option<String>> {
    let (groups, _) = list.list()?;
    if groups > GROUPS {
        return Some(Some(format!("it has {groups} row groups, the limit is {GROUPS}")));
    }
    let mut chunks = 0;
    for _ in 0..groups {
        list.fields(|value, id, kind| {
            if id == 1 {
                chunks += value.clone().list()?.0;
            }
            value.skip(kind)
        })?;
    }
    let too_many = chunks > CHUNKS;
    Some(too_many.then(|| format!("its row groups have {chunks} columns together, the limit is {CHUNKS}")))
}
