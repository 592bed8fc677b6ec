//! The proto3 JSON mapping of any message, by reflection over the compiled descriptors.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, SerializeOptions};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::DESCRIPTORS).expect("the descriptors were written by the build script")
});

/// Why a JSON text is not the message it should be.
#[derive(Debug, thiserror::Error)]
#[error("not a {message} in proto3 JSON: {reason}")]
pub struct InvalidJson {
    /// The message's full name.
    pub message: String,
    /// What is wrong, and where.
    pub reason: String,
}

/// A message with a full name: every generated one.
pub trait Named: Message + Default {
    /// The full name, e.g. `rekindle.events.v1.AliasMoved`.
    fn full_name() -> String;
}

impl<M: prost::Name + Default> Named for M {
    fn full_name() -> String {
        M::full_name()
    }
}

fn dynamic<M: Named>() -> DynamicMessage {
    let name = M::full_name();
    let descriptor = POOL.get_message_by_name(&name).expect("every generated message is in the pool");
    DynamicMessage::new(descriptor)
}

/// The message as a JSON value. Zero numbers, empty texts and empty lists are written out, so that
/// readers do not depend on the defaults; 64-bit integers are strings, as the mapping has it.
///
/// # Panics
///
/// If a timestamp or duration is outside of the range for which it is defined.
pub fn to_value<M: Named>(message: &M) -> serde_json::Value {
    let mut dynamic = dynamic::<M>();
    dynamic.transcode_from(message).expect("same message");
    serialized(&dynamic).expect("every message that is valid has a JSON form")
}

fn serialized(message: &DynamicMessage) -> Result<serde_json::Value, serde_json::Error> {
    let options = SerializeOptions::new().skip_default_fields(false).use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options)
}

/// An encoded message of this full name as a JSON value. `None` if it is no such message, or a timestamp or duration in it is outside of the
/// range for which it is defined.
pub fn encoded_to_value(full_name: &str, encoded: &[u8]) -> Option<serde_json::Value> {
    let message = DynamicMessage::decode(POOL.get_message_by_name(full_name)?, encoded).ok()?;
    serialized(&message).ok()
}

/// Reads a message; unknown fields are errors.
pub fn from_slice<M: Named>(json: &[u8]) -> Result<M, InvalidJson> {
    let invalid = |reason: String| InvalidJson { message: M::full_name(), reason };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(dynamic::<M>().descriptor(), &mut reader)
        .map_err(|error| invalid(error.to_string()))?;
    reader.end().map_err(|error| invalid(error.to_string()))?;
    message.transcode_to().map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::AliasMoved;

    #[test]
    fn round_trips_and_writes_defaults() {
        let moved = AliasMoved { model: "flight-delay".into(), revision: 7, ..Default::default() };
        let value = to_value(&moved);
        assert_eq!(value["model"], "flight-delay");
        assert_eq!(value["revision"], "7");
        assert_eq!(value["from_version"], 0);
        assert_eq!(from_slice::<AliasMoved>(value.to_string().as_bytes()).expect("same"), moved);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let error = from_slice::<AliasMoved>(br#"{"modle":"x"}"#).expect_err("unknown field");
        assert!(error.to_string().contains("modle"), "{error}");
    }
}
