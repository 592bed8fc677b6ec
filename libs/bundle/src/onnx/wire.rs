//! A message in the protobuf encoding as its fields, borrowed from the bytes. A decoder into structs would take many times the size of a
//! file of empty messages.

use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// A number as a varint.
    Number(u64),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// A number of a fixed width.
    Fixed,
}

/// The fields of a message of this name, in the order of the bytes.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    /// The bytes of the fields that were not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), String> {
        let message = self.message;
        let malformed = |what: &str| format!("{message} {what}: the file is truncated, or is not an ONNX file");
        let (number, wire) = decode_key(&mut self.rest).map_err(|_| malformed("has bytes that are no field"))?;
        let value = match wire {
            WireType::Varint => {
                let number = decode_varint(&mut self.rest);
                Value::Number(number.map_err(|_| malformed("ends inside of a number"))?)
            }
            WireType::ThirtyTwoBit | WireType::SixtyFourBit => {
                let width = if wire == WireType::ThirtyTwoBit { 4 } else { 8 };
                self.rest = self.rest.get(width..).ok_or_else(|| malformed("ends inside of a number"))?;
                Value::Fixed
            }
            WireType::LengthDelimited => {
                let size = decode_varint(&mut self.rest).map_err(|_| malformed("ends inside of a size"))?;
                let split = usize::try_from(size).ok().and_then(|size| self.rest.split_at_checked(size));
                let left = self.rest.len();
                let (bytes, rest) = split
                    .ok_or_else(|| malformed(&format!("ends inside of field {number}: {left} of {size} bytes")))?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(malformed("has a group")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The text of a field, at most as long as messages can repeat.
pub(super) fn text(what: &str, value: Value<'_>) -> Result<String, String> {
    const MAX_BYTES: usize = 1024;
    let Value::Bytes(bytes) = value else { return Err(format!("{what} is not a text")) };
    if bytes.len() > MAX_BYTES {
        return Err(format!("{what} has {} bytes, at most {MAX_BYTES} are allowed", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))?;
    match text.chars().find(|character| character.is_control()) {
        Some(control) => Err(format!("{what} has the control character {control:?}")),
        None => Ok(text.to_owned()),
    }
}

/// The number of varints in packed bytes.
pub(super) fn packed(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte < 0x80).count() as u64
}

/// The numbers of a repeated field, of which this is one packed or single value; at most `limit`.
pub(super) fn numbers(value: Value<'_>, limit: usize) -> Result<Vec<u64>, String> {
    match value {
        Value::Number(number) => Ok(vec![number]),
        Value::Bytes(bytes) if packed(bytes) > limit as u64 => Err(format!("a list has more than {limit} numbers")),
        Value::Bytes(mut bytes) => {
            let mut numbers = Vec::new();
            while !bytes.is_empty() {
                numbers.push(decode_varint(&mut bytes).map_err(|error| error.to_string())?);
            }
            Ok(numbers)
        }
        Value::Fixed => Err("a number has another encoding than its type".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_borrowed_and_truncation_is_named() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i'];
        let fields: Vec<_> = Fields::of("M", &bytes).collect();
        assert_eq!(fields, [Ok((1, Value::Number(150))), Ok((2, Value::Bytes(b"hi")))]);
        let last = Fields::of("M", &bytes[..6]).last().expect("a field").expect_err("truncated");
        assert!(last.contains("M ends inside of field 2: 1 of 2 bytes"), "{last}");
    }

    #[test]
    fn packed_numbers_are_counted_and_read() {
        let bytes = [0x01, 0x96, 0x01, 0x00];
        assert_eq!(packed(&bytes), 3);
        assert_eq!(numbers(Value::Bytes(&bytes), 3), Ok(vec![1, 150, 0]));
        assert!(numbers(Value::Bytes(&bytes), 2).is_err());
        assert!(numbers(Value::Bytes(&[0x80]), 3).is_err());
    }
}
