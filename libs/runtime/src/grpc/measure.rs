//! What a request message holds, measured on the wire before it is decoded: the memory that it takes, since a message of two bytes
//! per element would take hundreds of times its size, and texts that no database stores.

use std::collections::HashMap;

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Bytes of a `Vec`, a `String` or a `Bytes` in a struct.
const POINTERS: u64 = 32;
/// Bytes of a `BTreeMap` in a struct.
const MAP: u64 = 24;
/// Bytes of a number or a flag in a struct, with its padding.
const NUMBER: u64 = 8;
/// Bytes that the allocator adds to an allocation.
const ALLOCATION: u64 = 16;
/// Elements of the first allocation of a `Vec`, and entries of that of a map.
const FIRST: u64 = 4;

/// What is known of every message of some files.
#[derive(Default)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<String, usize>,
}

/// What is known of one message.
#[derive(Default)]
struct Shape {
    /// Bytes of its struct.
    bytes: u64,
    /// Name and kind, by number.
    fields: Vec<(String, Field)>,
}

/// What was measured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// The bytes that the message takes once decoded; counted until they exceed the limit.
    pub(super) bytes: u64,
    /// The field of a text with a NUL character, which PostgreSQL does not store.
    pub(super) nul: Option<String>,
}

#[derive(Clone, Copy, Default)]
enum Field {
    /// Not decoded, or part of the struct.
    #[default]
    Ignored,
    /// A text.
    Text { is_repeated: bool },
    /// Bytes.
    Bytes { is_repeated: bool },
    /// Repeated numbers of so many bytes each, packed or not; on the wire of a fixed size or of one to ten bytes.
    Numbers { bytes: u64, wire: Option<usize> },
    /// A message. Those that occur once are part of the struct.
    Message { shape: usize, is_repeated: bool },
}

impl Shapes {
    /// Adds the messages of a set of files.
    pub(super) fn add(&mut self, set: &FileDescriptorSet) {
        let mut messages = HashMap::new();
        for file in &set.file {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut messages);
            }
        }
        let start = self.shapes.len();
        let names = messages.keys().enumerate().map(|(at, name)| (name.clone(), start + at));
        self.by_name.extend(names);
        for message in messages.values() {
            let bytes = size(message, &messages, &mut Vec::new());
            let mut fields = Vec::new();
            for field in &message.field {
                let number = usize::try_from(field.number()).unwrap_or_default();
                fields.resize(fields.len().max(number + 1), Default::default());
                fields[number] = (field.name().to_owned(), self.field(field));
            }
            self.shapes.push(Shape { bytes, fields });
        }
    }

    /// The shape of the message with this name in a descriptor, e.g. `.package.Message`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn field(&self, field: &FieldDescriptorProto) -> Field {
        let is_repeated = field.label() == Label::Repeated;
        let numbers = |bytes, wire| if is_repeated { Field::Numbers { bytes, wire } } else { Field::Ignored };
        match field.r#type() {
            Type::String => Field::Text { is_repeated },
            Type::Bytes => Field::Bytes { is_repeated },
            Type::Message => {
                self.find(field.type_name()).map_or(Field::Ignored, |shape| Field::Message { shape, is_repeated })
            }
            Type::Fixed64 | Type::Sfixed64 | Type::Double => numbers(8, Some(8)),
            Type::Fixed32 | Type::Sfixed32 | Type::Float => numbers(4, Some(4)),
            Type::Int64 | Type::Uint64 | Type::Sint64 => numbers(8, None),
            Type::Bool => numbers(1, None),
            Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum => numbers(4, None),
            Type::Group => Field::Ignored,
        }
    }

    /// Measures a message, up to `limit` bytes. One that is malformed is measured up to the fault, where decoding ends too.
    pub(super) fn measure(&self, shape: usize, wire: &[u8], limit: u64) -> Measured {
        let measured = Measured { bytes: self.shapes[shape].bytes, nul: None };
        let mut meter = Meter { shapes: self, measured, limit };
        let _ = meter.message(&self.shapes[shape], wire);
        meter.measured
    }
}

fn collect<'a>(scope: &str, message: &'a DescriptorProto, into: &mut HashMap<String, &'a DescriptorProto>) {
    let name = format!("{scope}.{}", message.name());
    message.nested_type.iter().for_each(|nested| collect(&name, nested, into));
    into.insert(name, message);
}

/// Bytes of the struct of a message. A message within itself is boxed.
fn size<'a>(
    message: &'a DescriptorProto,
    messages: &HashMap<String, &'a DescriptorProto>,
    outer: &mut Vec<&'a DescriptorProto>,
) -> u64 {
    if outer.iter().any(|known| std::ptr::eq(*known, message)) {
        return NUMBER;
    }
    outer.push(message);
    let fields = message.field.iter().map(|field| {
        let nested = messages.get(field.type_name());
        match (field.label() == Label::Repeated, field.r#type(), nested) {
            (true, _, Some(entry)) if entry.options.as_ref().is_some_and(|options| options.map_entry()) => MAP,
            (true, ..) | (_, Type::String | Type::Bytes, _) => POINTERS,
            (_, _, Some(nested)) => NUMBER + size(nested, messages, outer),
            _ => NUMBER,
        }
    });
    let bytes = fields.sum();
    outer.pop();
    bytes
}

/// What is measured so far.
struct Meter<'a> {
    shapes: &'a Shapes,
    measured: Measured,
    limit: u64,
}

impl Meter<'_> {
    /// Counts what the fields of a message allocate. `None` if the message is malformed, has a NUL or exceeds the limit.
    fn message(&mut self, shape: &Shape, mut wire: &[u8]) -> Option<()> {
        let mut seen = 0_u64;
        while !wire.is_empty() {
            let tag = varint(&mut wire)?;
            let number = usize::try_from(tag >> 3).ok()?;
            let (name, field) = shape.fields.get(number).map_or(("", Field::Ignored), |(name, field)| (name, *field));
            let bit = 1_u64.checked_shl(u32::try_from(number).ok()?).unwrap_or_default();
            let is_first = seen & bit == 0;
            seen |= bit;
            match tag & 7 {
                0 => {
                    varint(&mut wire)?;
                    self.numbers(field, 1, is_first);
                }
                1 => {
                    wire = wire.get(8..)?;
                    self.numbers(field, 1, is_first);
                }
                5 => {
                    wire = wire.get(4..)?;
                    self.numbers(field, 1, is_first);
                }
                2 => {
                    let length = usize::try_from(varint(&mut wire)?).ok()?;
                    let (content, rest) = wire.split_at_checked(length)?;
                    wire = rest;
                    self.content(name, field, content, is_first)?;
                }
                // A group: its fields are skipped by decoding, and counted here as if they were fields of the message.
                3 | 4 => {}
                _ => return None,
            }
            if self.measured.bytes > self.limit {
                return None;
            }
        }
        Some(())
    }

    fn content(&mut self, name: &str, field: Field, content: &[u8], is_first: bool) -> Option<()> {
        match field {
            Field::Ignored => {}
            Field::Text { .. } if content.contains(&0) => {
                self.measured.nul = Some(name.to_owned());
                return None;
            }
            Field::Text { is_repeated } | Field::Bytes { is_repeated } => {
                self.elements(u64::from(is_repeated), POINTERS, is_first);
                if !content.is_empty() {
                    self.measured.bytes += content.len() as u64 + ALLOCATION;
                }
            }
            Field::Numbers { wire, .. } => {
                let count = match wire {
                    Some(bytes) => content.len() / bytes,
                    None => content.iter().filter(|byte| **byte < 0x80).count(),
                };
                self.numbers(field, count, is_first);
            }
            Field::Message { shape, is_repeated } => {
                let shapes = self.shapes;
                let shape = &shapes.shapes[shape];
                self.elements(u64::from(is_repeated), shape.bytes, is_first);
                if self.message(shape, content).is_none() {
                    self.measured.nul = self.measured.nul.take().map(|inner| format!("{name}.{inner}"));
                    return None;
                }
            }
        }
        Some(())
    }

    fn numbers(&mut self, field: Field, count: usize, is_first: bool) {
        if let Field::Numbers { bytes, .. } = field {
            self.elements(count as u64, bytes, is_first);
        }
    }

    /// Counts elements of a vector; a vector has room for several elements from its first one on.
    fn elements(&mut self, count: u64, bytes: u64, is_first: bool) {
        let room = if is_first && count > 0 { count.max(FIRST) } else { count };
        let total = &mut self.measured.bytes;
        *total = total.saturating_add(room.saturating_mul(bytes));
    }
}

/// Reads an integer of at most ten bytes.
fn varint(wire: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (&byte, rest) = wire.split_first()?;
        *wire = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, encode_length_delimiter};

    use super::*;

    /// Bytes of the struct of an input tensor: two texts, a vector and a map, and eight vectors of contents.
    const TENSOR: u64 = 3 * 24 + 24 + 8 * 24;
    /// Fields of a request, of an input and of its contents.
    const ID: u8 = 3;
    const INPUTS: u8 = 5;
    const RAW_CONTENTS: u8 = 7;
    const NAME: u8 = 1;
    const CONTENTS: u8 = 5;
    const INT64_CONTENTS: u8 = 3;
    const BYTES_CONTENTS: u8 = 8;

    /// A field with a length, on the wire.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut wire = vec![number << 3 | 2];
        encode_length_delimiter(content.len(), &mut wire).expect("room");
        [wire, content.to_vec()].concat()
    }

    /// A prediction request, measured.
    fn measured(wire: &[u8]) -> Measured {
        let mut shapes = Shapes::default();
        shapes.add(&FileDescriptorSet::decode(rekindle_proto::DESCRIPTORS).expect("descriptors"));
        let shape = shapes.find(".inference.ModelInferRequest").expect("a message");
        shapes.measure(shape, wire, u64::MAX)
    }

    fn bytes(wire: &[u8]) -> u64 {
        measured(wire).bytes
    }

    #[test]
    fn an_empty_message_counts_as_its_struct() {
        let counted = bytes(&field(INPUTS, &[]).repeat(1000));
        assert!((1000 * TENSOR..2000 * TENSOR).contains(&counted), "{counted} for 1000 tensors of {TENSOR}");
    }

    #[test]
    fn numbers_count_as_decoded_and_bytes_as_sent() {
        let input = |contents: &[u8]| field(INPUTS, &field(CONTENTS, contents));
        let ints = field(INT64_CONTENTS, &[1; 10_000]);
        assert_eq!(bytes(&input(&ints)) - bytes(&input(&[])), 80_000, "a byte each on the wire");
        let raw = bytes(&field(RAW_CONTENTS, &[0; 10_000])) - bytes(&[]);
        assert!((10_000..10_500).contains(&raw), "{raw}");
    }

    #[test]
    fn the_first_element_counts_as_the_room_that_it_takes() {
        assert!(bytes(&field(INPUTS, &[])) >= 4 * TENSOR);
    }

    #[test]
    fn a_nul_in_a_text_is_named_and_one_in_bytes_is_data() {
        let data = field(INPUTS, &field(CONTENTS, &field(BYTES_CONTENTS, b"a\0b")));
        assert_eq!(measured(&data).nul, None);
        assert_eq!(measured(&field(INPUTS, &field(NAME, b"a\0b"))).nul.as_deref(), Some("inputs.name"));
        assert_eq!(measured(&field(ID, b"\0")).nul.as_deref(), Some("id"));
    }

    #[test]
    fn what_is_malformed_is_measured_up_to_the_fault_and_a_group_hides_nothing() {
        let inputs = |count: usize| field(INPUTS, &[]).repeat(count);
        let ten = bytes(&inputs(10));
        assert!(bytes(&inputs(9)) < ten);
        for fault in [&[0xff][..], &[INPUTS << 3 | 2, 5], &[0x0e], &[0x80; 11]] {
            assert!(bytes(&[&inputs(10), fault].concat()) >= ten);
        }
        let group = [0xf3, 0x3f, 0xf4, 0x3f];
        assert_eq!(bytes(&[&group[..], &inputs(10)].concat()), ten);
    }
}
