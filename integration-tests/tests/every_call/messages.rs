//! Messages of a method, generated from its descriptor.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
    prost::Message as _,
};

/// How deep messages are filled.
const DEPTH: usize = 5;
/// Bytes of messages with many elements, less than the limit of a request.
const LARGE: usize = 3 << 20;
/// Bytes of a text that is longer than any that is stored, and than an event.
const LONG: usize = 600_000;

/// Bytes of the largest message of a method, by the defaults of the platform.
fn largest(method: &MethodDescriptor) -> usize {
    if method.parent_service().package_name() == "inference" { 16 << 20 } else { 4 << 20 }
}

/// A message, and what it is.
pub(crate) struct Generated {
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
}

/// A plausible message, hostile variations of it, and what is no message.
pub(crate) fn of(method: &MethodDescriptor) -> Vec<Generated> {
    let plausible = filled(&method.input(), 0);
    let mut messages = vec![
        generated("an empty message", Vec::new()),
        generated("a plausible message", plausible.encode_to_vec()),
        generated("no message", vec![0xff; 1000]),
        generated("text", b"GET / HTTP/1.1\r\n\r\n".repeat(50)),
        generated("a tag and no field", vec![0x0a]),
        generated("zeros of the largest size", vec![0; largest(method)]),
        generated("more than the largest size", vec![0; largest(method) + 1]),
        generated("unknown fields", [0xfa, 0x7f, 1, b'x'].repeat(LARGE / 4)),
        generated("unknown groups", [0xfb, 0x7f, 0xfc, 0x7f].repeat(LARGE / 4)),
    ];
    let lists = method.input().fields().filter(|field| field.is_list() || field.is_map()).collect::<Vec<_>>();
    messages.extend(lists.into_iter().filter(|field| field.number() < 16).map(|field| {
        // A tag and a length of 0.
        let element = [u8::try_from(field.number() << 3 | 2).expect("a small number"), 0];
        let bytes = element.repeat(largest(method) / 2);
        generated(&format!("{} of nothing but empty elements", field.name()), bytes)
    }));
    let mut path = Vec::new();
    vary(&plausible, &mut path, &mut |path, field| {
        for (what, value) in hostile(field) {
            let mut message = plausible.clone();
            set(&mut message, path, field, value);
            let names: Vec<_> = path.iter().chain([field]).map(FieldDescriptor::name).collect();
            messages.push(generated(&format!("{} {what}", names.join(".")), message.encode_to_vec()));
        }
    });
    messages
}

/// A plausible message with an unknown field, of about `size` bytes in all.
pub(crate) fn valid(method: &MethodDescriptor, size: usize) -> Vec<u8> {
    let mut bytes = filled(&method.input(), 0).encode_to_vec();
    // Field 2047 of bytes.
    bytes.extend([0xfa, 0x7f]);
    let rest = size.saturating_sub(bytes.len());
    prost_reflect::prost::encoding::encode_varint(rest as u64, &mut bytes);
    bytes.resize(bytes.len() + rest, b'x');
    bytes
}

fn generated(what: &str, bytes: Vec<u8>) -> Generated {
    Generated { what: what.to_owned(), bytes }
}

/// A message with every field, of a `oneof` the first.
fn filled(descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let is_other = field.containing_oneof().is_some_and(|oneof| oneof.fields().next() != Some(field.clone()));
        if is_other || depth >= DEPTH {
            continue;
        }
        let value = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let value = plausible(&entry.map_entry_value_field(), depth + 1);
                Value::Map([(MapKey::String("name".to_owned()), value)].into())
            }
            _ if field.is_list() => Value::List(vec![plausible(&field, depth + 1)]),
            _ => plausible(&field, depth + 1),
        };
        message.set_field(&field, value);
    }
    message
}

/// A value of one element of a field. Ids and digests are those of nothing that exists.
fn plausible(field: &FieldDescriptor, depth: usize) -> Value {
    let name = field.name();
    match field.kind() {
        Kind::String if name.contains("digest") || name == "parents" => Value::String(format!("sha256:{:064x}", 7)),
        Kind::String if name == "id" || name.ends_with("_id") => {
            Value::String("01890000-0000-7000-8000-0000000000ff".to_owned())
        }
        Kind::String if name == "page_token" => Value::String(String::new()),
        Kind::String => Value::String("weather".to_owned()),
        Kind::Message(message) => Value::Message(filled(&message, depth)),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Bytes => Value::Bytes(vec![1; 8].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Double => Value::F64(0.5),
        Kind::Float => Value::F32(0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(1),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(1),
    }
}

/// Values that no client sends, for a whole field.
fn hostile(field: &FieldDescriptor) -> Vec<(String, Value)> {
    if field.is_map() {
        let entries = |count: usize| (0..count).map(|at| (MapKey::String(format!("{at}")), map_value(field))).collect();
        return vec![("of many entries".to_owned(), Value::Map(entries(LARGE / 50)))];
    }
    if !field.is_list() {
        return elements(field).into_iter().map(|(what, value)| (format!("of {what}"), value)).collect();
    }
    let mut values = Vec::new();
    for (what, value) in elements(field) {
        values.push((format!("of one {what}"), Value::List(vec![value])));
    }
    let (least, plausible) = (least(field), plausible(field, DEPTH - 1));
    let bytes = match &plausible {
        Value::Message(message) => message.encoded_len(),
        _ => 8,
    };
    values.push(("of many empty elements".to_owned(), Value::List(vec![least; LARGE / 4])));
    values.push(("of many elements".to_owned(), Value::List(vec![plausible.clone(); LARGE / (bytes + 8)])));
    values.push(("of 10,000 elements".to_owned(), Value::List(vec![plausible; 10_000.min(LARGE / (bytes + 8))])));
    values
}

fn map_value(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(entry) => least(&entry.map_entry_value_field()),
        _ => unreachable!("a map has entries"),
    }
}

/// The smallest element of a field.
fn least(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(message) => Value::Message(DynamicMessage::new(message)),
        Kind::String => Value::String(String::new()),
        Kind::Bytes => Value::Bytes(Vec::new().into()),
        kind => Value::default_value(&kind),
    }
}

fn elements(field: &FieldDescriptor) -> Vec<(&'static str, Value)> {
    match field.kind() {
        Kind::String => vec![
            ("an empty text", Value::String(String::new())),
            ("a long text", Value::String("x".repeat(LONG))),
            ("a text with a NUL", Value::String("a\0b".to_owned())),
            ("control characters", Value::String("a\u{1b}[2J\r\n\u{85}".to_owned())),
            ("quotes and wide characters", Value::String("'\";--\u{1f980}\u{202e}".repeat(100))),
        ],
        Kind::Bytes => vec![("many bytes", Value::Bytes(vec![0xff; LARGE].into()))],
        Kind::Message(message) => vec![("nothing", Value::Message(DynamicMessage::new(message)))],
        Kind::Enum(_) => vec![("an unknown value", Value::EnumNumber(i32::MAX)), ("a negative", Value::EnumNumber(-1))],
        Kind::Bool => vec![("false", Value::Bool(false))],
        Kind::Double => [f64::NAN, f64::INFINITY, -1e308, 0.0].map(|value| ("an odd number", Value::F64(value))).into(),
        Kind::Float => [f32::NAN, f32::NEG_INFINITY].map(|value| ("an odd number", Value::F32(value))).into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            [i32::MIN, 0, i32::MAX].map(|value| ("an extreme", Value::I32(value))).into()
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            [i64::MIN, 0, i64::MAX].map(|value| ("an extreme", Value::I64(value))).into()
        }
        Kind::Uint32 | Kind::Fixed32 => [0, u32::MAX].map(|value| ("an extreme", Value::U32(value))).into(),
        Kind::Uint64 | Kind::Fixed64 => [0, u64::MAX].map(|value| ("an extreme", Value::U64(value))).into(),
    }
}

/// Visits every field that is set in a message, with the fields that lead to it.
fn vary(
    message: &DynamicMessage,
    path: &mut Vec<FieldDescriptor>,
    visit: &mut impl FnMut(&[FieldDescriptor], &FieldDescriptor),
) {
    for field in message.descriptor().fields() {
        visit(path, &field);
        let inner = match message.get_field(&field).into_owned() {
            Value::Message(inner) if message.has_field(&field) => inner,
            Value::List(items) => match items.into_iter().next() {
                Some(Value::Message(inner)) => inner,
                _ => continue,
            },
            _ => continue,
        };
        path.push(field);
        vary(&inner, path, visit);
        path.pop();
    }
}

/// Sets a field of the message at a path. Of a list on the way it is the first element.
fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], field: &FieldDescriptor, value: Value) {
    let Some((next, rest)) = path.split_first() else {
        return message.set_field(field, value);
    };
    let inner = match message.get_field_mut(next) {
        Value::Message(inner) => inner,
        Value::List(items) => match items.first_mut() {
            Some(Value::Message(inner)) => inner,
            _ => unreachable!("the path leads through messages"),
        },
        _ => unreachable!("the path leads through messages"),
    };
    set(inner, rest, field, value);
}
