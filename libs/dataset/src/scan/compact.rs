/// Bytes in Thrift's compact protocol (thrift-compact-protocol.md), in which Parquet writes its metadata: enough of it to see what a file
/// claims before a decoder allocates for it. `None` is what is cut off or malformed.
#[derive(Debug, Clone)]
pub(super) struct Compact<'a> {
    rest: &'a [u8],
}

/// The type of a field or of the elements of a list.
pub(super) type Kind = u8;

pub(super) const TRUE: Kind = 1;
const FALSE: Kind = 2;
const BYTE: Kind = 3;
const I16: Kind = 4;
const I64: Kind = 6;
const DOUBLE: Kind = 7;
const BINARY: Kind = 8;
const LIST: Kind = 9;
const SET: Kind = 10;
const MAP: Kind = 11;
const STRUCT: Kind = 12;

/// Levels of nesting of what is skipped. Metadata has far fewer.
const DEPTH: u32 = 64;

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Visits the fields of a struct with their ids. What `visit` does not consume it skips with [`skip`](Self::skip).
    pub(super) fn fields(&mut self, mut visit: impl FnMut(&mut Self, i64, Kind) -> Option<()>) -> Option<()> {
        let mut id = 0;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            id = match header >> 4 {
                0 => self.integer()?,
                delta => id + i64::from(delta),
            };
            visit(self, id, header & 0x0f)?;
        }
    }

    /// The number of elements of a list, at most one per byte that is left, and their type.
    pub(super) fn list(&mut self) -> Option<(usize, Kind)> {
        let header = self.byte()?;
        let size = match header >> 4 {
            15 => usize::try_from(self.varint()?).ok()?,
            size => usize::from(size),
        };
        (size <= self.rest.len()).then_some((size, header & 0x0f))
    }

    /// A signed integer of any width but a byte.
    pub(super) fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Text or bytes.
    pub(super) fn binary(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// Skips the value of a field.
    pub(super) fn skip(&mut self, kind: Kind) -> Option<()> {
        self.skip_value(kind, DEPTH)
    }

    fn skip_value(&mut self, kind: Kind, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.take(1).map(drop),
            I16..=I64 => self.varint().map(drop),
            DOUBLE => self.take(size_of::<f64>()).map(drop),
            BINARY => self.binary().map(drop),
            LIST | SET => {
                let (size, kind) = self.list()?;
                (0..size).try_for_each(|_| self.skip_element(kind, depth))
            }
            MAP => self.skip_map(depth),
            STRUCT => self.fields(|value, _, kind| value.skip_value(kind, depth)),
            _ => None,
        }
    }

    /// Unlike as a field, a boolean takes a byte as an element.
    fn skip_element(&mut self, kind: Kind, depth: u32) -> Option<()> {
        let is_boolean = matches!(kind, TRUE | FALSE);
        if is_boolean { self.take(1).map(drop) } else { self.skip_value(kind, depth) }
    }

    fn skip_map(&mut self, depth: u32) -> Option<()> {
        let size = self.varint()?;
        if size == 0 {
            return Some(());
        }
        let kinds = self.byte()?;
        (0..size).try_for_each(|_| {
            self.skip_element(kinds >> 4, depth)?;
            self.skip_element(kinds & 0x0f, depth)
        })
    }

    /// The next bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// An unsigned integer, seven bits a byte.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_visited_with_their_ids_and_others_are_skipped() {
        // 1: i32 = -3, 2: list of two i32, 20 (in the long form): true, 21: a struct with a binary, 22: i64 = 1.
        let bytes = [0x15, 5, 0x19, 0x25, 2, 4, 0x01, 40, 0x1c, 0x18, 2, b'a', b'b', 0, 0x16, 2, 0, 9];
        let (mut integers, mut reader) = (Vec::new(), Compact::new(&bytes));
        let visited = reader.fields(|value, id, kind| match id {
            1 | 22 => {
                integers.push((id, value.integer()?));
                Some(())
            }
            _ => value.skip(kind),
        });
        assert_eq!((visited, integers), (Some(()), vec![(1, -3), (22, 1)]));
        assert_eq!(reader.rest, [9]);
    }

    #[test]
    fn claims_beyond_the_bytes_are_malformed() {
        assert_eq!(Compact::new(&[0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]).list(), None, "2^31 - 1 structs");
        assert_eq!(Compact::new(&[0x85, 0x01, b'x']).binary(), None, "133 bytes");
        assert_eq!(Compact::new(&[0x1c; 1000]).skip(STRUCT), None, "structs without an end");
        assert_eq!(Compact::new(&[0x80; 20]).varint(), None, "no last byte");
    }
}
