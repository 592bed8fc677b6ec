//! Thrift's compact protocol, as far as a Parquet file needs it: a struct is a list of fields by id.

/// The value of a field, or an element of a list.
pub(crate) enum Value {
    I32(i64),
    I64(i64),
    Text(&'static [u8]),
    Struct(Vec<(u8, Value)>),
    /// Elements of one kind, and the number that is claimed.
    List(Vec<Value>, u64),
}

/// A list that claims as many elements as it has.
pub(crate) fn list(values: Vec<Value>) -> Value {
    let size = values.len() as u64;
    Value::List(values, size)
}

/// A struct as bytes.
pub(crate) fn encoded(fields: Vec<(u8, Value)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Value::Struct(fields).write(&mut bytes);
    bytes
}

impl Value {
    fn kind(&self) -> u8 {
        match self {
            Self::I32(_) => 5,
            Self::I64(_) => 6,
            Self::Text(_) => 8,
            Self::List(..) => 9,
            Self::Struct(_) => 12,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::I32(value) | Self::I64(value) => zigzag(*value, bytes),
            Self::Text(text) => {
                varint(text.len() as u64, bytes);
                bytes.extend_from_slice(text);
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (id, value) in fields {
                    bytes.push((id - last) << 4 | value.kind());
                    value.write(bytes);
                    last = *id;
                }
                bytes.push(0);
            }
            Self::List(values, size) => {
                bytes.push(0xf0 | values.first().map_or(12, Self::kind));
                varint(*size, bytes);
                values.iter().for_each(|value| value.write(bytes));
            }
        }
    }
}

pub(crate) fn zigzag(value: i64, bytes: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned(), bytes);
}

pub(crate) fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
