//! The fields of nested structs, collected while serde deserializes them: a derived `Deserialize` passes the names of all fields of its
//! struct, whether or not the input has them.

use std::{cell::RefCell, collections::BTreeSet};

use serde::{
    de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

type Keys = RefCell<BTreeSet<String>>;

/// The dotted keys of all fields of `T`. A nested struct is replaced by its own fields, unless `values` lacks it.
///
/// Deserialization ends at the end of the first struct that lacks a required value, so the fields of later structs are missing then.
pub(super) fn of<T: serde::de::DeserializeOwned>(values: &Value) -> BTreeSet<String> {
    let keys = Keys::default();
    let _ = T::deserialize(Collector { path: String::new(), value: values.clone(), keys: &keys });
    keys.into_inner()
}

struct Collector<'k> {
    path: String,
    value: Value,
    keys: &'k Keys,
}

impl<'de> Deserializer<'de> for Collector<'_> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let Value::Object(table) = self.value else {
            return Err(Self::Error::custom(format!("{}: no table", self.path)));
        };
        let child =
            |field: &str| if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        self.keys.borrow_mut().remove(&self.path);
        self.keys.borrow_mut().extend(fields.iter().map(|field| child(field)));
        visitor.visit_map(Fields { path: &self.path, fields: fields.iter(), table, value: None, keys: self.keys })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.value.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

/// The values of a table in the order of the struct's fields.
struct Fields<'c> {
    path: &'c str,
    fields: std::slice::Iter<'static, &'static str>,
    table: Map<String, Value>,
    value: Option<Collector<'c>>,
    keys: &'c Keys,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        for field in self.fields.by_ref() {
            if let Some(value) = self.table.remove(*field) {
                let path = if self.path.is_empty() { (*field).to_owned() } else { format!("{}.{field}", self.path) };
                self.value = Some(Collector { path, value, keys: self.keys });
                return seed.deserialize((*field).into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let value = self.value.take().ok_or_else(|| Self::Error::custom("a value without a key"))?;
        seed.deserialize(value)
    }
}
