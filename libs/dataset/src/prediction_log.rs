//! The messages of the prediction log: the predictions of a replica, published on `rekindle.predictions.<model>`.
//!
//! One message is one Arrow IPC stream with one record batch. The metadata of its schema are the [`Header`]. The columns are, in order:
//!
//! | column | type | |
//! |---|---|---|
//! | `prediction_id` | FixedSizeBinary(16) | the prediction request (a UUID) |
//! | `row` | UInt32 | row of the request, from 0 |
//! | `event_time` | Timestamp(ms, UTC) | the event time of the row |
//! | `answered_at` | Timestamp(us, UTC) | when the prediction was made |
//! | `in.<feature>` | Int64, Float64, Utf8 or Boolean | the input of the model; may be missing |
//! | `out.<output>` | Float32, FixedSizeList of Float32, or Utf8 | the output of the model |
//! | `request_id` | Utf8 | the client's id of the request; the column is absent if no request has one |
//! | `entity_key` | Utf8 | what the row is about, as the request states it; the column is absent if no row has one |
//! | `guardrails` | Utf8 | what guardrails clipped or flagged, e.g. `inputs[distance] range clip`; the column is absent if no row has any |
//!
//! `lost_before` counts the rows that this incarnation of the replica has predicted but dropped since its previous message, and
//! `unsampled_before` those that are not in the sample, so that the rows that are logged, declared lost and declared unsampled are together
//! the predicted ones. Inputs that are redacted have no column.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    ipc::{reader::StreamDecoder, writer::StreamWriter},
};
use bytes::Bytes;
use rekindle_domain::{Digest, ModelName, ReplicaId};
use uuid::Uuid;

use crate::Error;

/// The largest message, in bytes.
pub const MAX_BYTES: usize = 512 * 1024;

/// Name of the column of prediction ids.
pub const PREDICTION_ID: &str = "prediction_id";
/// Name of the column of row numbers.
pub const ROW: &str = "row";
/// Name of the column of event times.
pub const EVENT_TIME: &str = "event_time";
/// Name of the column of answer times.
pub const ANSWERED_AT: &str = "answered_at";
/// Name of the optional column of the clients' request ids.
pub const REQUEST_ID: &str = "request_id";
/// Name of the optional column of entity keys.
pub const ENTITY_KEY: &str = "entity_key";
/// Name of the optional column of what guardrails have found.
pub const GUARDRAILS: &str = "guardrails";
/// The optional columns, all of texts.
pub const OPTIONAL: [&str; 3] = [REQUEST_ID, ENTITY_KEY, GUARDRAILS];
/// Prefix of the columns of inputs.
pub const INPUT_PREFIX: &str = "in.";
/// Prefix of the columns of outputs.
pub const OUTPUT_PREFIX: &str = "out.";

/// The origin of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub model_version: u32,
    /// The bundle of the version.
    pub bundle_digest: Digest,
    /// The replica.
    pub replica: ReplicaId,
    /// The incarnation of the replica: a new one at every start. `sequence` and `lost_before` count within it.
    pub incarnation: Uuid,
    /// The number of this message within the incarnation, from 1.
    pub sequence: u64,
    /// Rows predicted since the previous message that were dropped.
    pub lost_before: u64,
    /// Rows predicted since the previous message that are not in the sample. Absent in messages of the first release, which has none.
    pub unsampled_before: u64,
    /// Whether the rows are test rows, which are not monitored. Absent in messages of the first release, which has none.
    pub is_test: bool,
}

impl Header {
    /// The id of the message for the bus and the monitor: `<replica>/<incarnation>/<sequence>`.
    pub fn message_id(&self) -> String {
        format!("{}/{}/{}", self.replica, self.incarnation, self.sequence)
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs = [
            ("model", self.model.to_string()),
            ("model_version", self.model_version.to_string()),
            ("bundle_digest", self.bundle_digest.to_string()),
            ("replica", self.replica.to_string()),
            ("incarnation", self.incarnation.to_string()),
            ("sequence", self.sequence.to_string()),
            ("lost_before", self.lost_before.to_string()),
            ("unsampled_before", self.unsampled_before.to_string()),
            ("is_test", self.is_test.to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn from_metadata(metadata: &HashMap<String, String>) -> Result<Self, Error> {
        Ok(Self {
            model: entry(metadata, "model")?,
            model_version: entry(metadata, "model_version")?,
            bundle_digest: entry(metadata, "bundle_digest")?,
            replica: entry(metadata, "replica")?,
            incarnation: entry(metadata, "incarnation")?,
            sequence: entry(metadata, "sequence")?,
            lost_before: entry(metadata, "lost_before")?,
            unsampled_before: if metadata.contains_key("unsampled_before") {
                entry(metadata, "unsampled_before")?
            } else {
                0
            },
            is_test: metadata.contains_key("is_test") && entry(metadata, "is_test")?,
        })
    }
}

fn entry<T: FromStr>(metadata: &HashMap<String, String>, key: &str) -> Result<T, Error> {
    let text = metadata.get(key).ok_or_else(|| Error::Log(format!("its metadata have no {key}")))?;
    text.parse().map_err(|_| Error::Log(format!("its metadata have an invalid {key}: {text:?}")))
}

/// The columns for the inputs and outputs of a model, which are given without prefix.
pub fn schema<'a>(
    inputs: impl IntoIterator<Item = (&'a str, DataType)>,
    outputs: impl IntoIterator<Item = (&'a str, DataType)>,
) -> SchemaRef {
    let mut fields = fixed_fields();
    fields.extend(inputs.into_iter().map(|(name, kind)| Field::new(format!("{INPUT_PREFIX}{name}"), kind, true)));
    fields.extend(outputs.into_iter().map(|(name, kind)| Field::new(format!("{OUTPUT_PREFIX}{name}"), kind, true)));
    Arc::new(Schema::new(fields))
}

/// One of the [`OPTIONAL`] columns.
pub fn optional_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// The type of an output column with `width` numbers per row.
pub fn output_type(width: usize) -> DataType {
    match i32::try_from(width) {
        Ok(width) if width > 1 => {
            DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), width)
        }
        _ => DataType::Float32,
    }
}

fn fixed_fields() -> Vec<Field> {
    vec![
        Field::new(PREDICTION_ID, DataType::FixedSizeBinary(16), false),
        Field::new(ROW, DataType::UInt32, false),
        Field::new(EVENT_TIME, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new(ANSWERED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ]
}

/// Encodes a batch with the columns of [`schema`] as a message.
///
/// # Errors
/// Other columns; a message larger than [`MAX_BYTES`], in which case fewer rows must be sent at a time.
pub fn encode(header: &Header, batch: &RecordBatch) -> Result<Bytes, Error> {
    check_columns(&batch.schema())?;
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(header.metadata()));
    let batch = batch.clone().with_schema(schema.clone()).map_err(Error::arrow("set the header"))?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema).map_err(Error::arrow("encode predictions"))?;
    writer.write(&batch).map_err(Error::arrow("encode predictions"))?;
    writer.finish().map_err(Error::arrow("encode predictions"))?;
    drop(writer);
    if bytes.len() > MAX_BYTES {
        return Err(Error::LogTooLarge { rows: batch.num_rows(), bytes: bytes.len(), limit: MAX_BYTES });
    }
    Ok(bytes.into())
}

/// Decodes a message. The batch has no metadata, so that batches of one model can be concatenated.
///
/// # Errors
/// Anything but one batch of the expected columns with a complete header.
pub fn decode(bytes: &[u8]) -> Result<(Header, RecordBatch), Error> {
    // Arrow's decoder checks most of its input and panics at the rest. A publisher's bytes must not crash a consumer.
    let (schema, batch) = std::panic::catch_unwind(|| read_stream(bytes))
        .unwrap_or_else(|_| Err(Error::Log("the Arrow stream is damaged".to_owned())))?;
    let header = Header::from_metadata(schema.metadata())?;
    check_columns(&schema)?;
    let plain = Arc::new(schema.as_ref().clone().with_metadata(HashMap::new()));
    // Not `with_schema`, which can add metadata but not remove them.
    let batch = RecordBatch::try_new(plain, batch.columns().to_vec());
    Ok((header, batch.map_err(|error| Error::Log(error.to_string()))?))
}

/// The schema and the only batch of an IPC stream.
fn read_stream(bytes: &[u8]) -> Result<(SchemaRef, RecordBatch), Error> {
    let damaged = |error: arrow::error::ArrowError| Error::Log(error.to_string());
    // Not a StreamReader, which allocates as much memory as the bytes declare.
    let (mut decoder, mut rest) = (StreamDecoder::new(), Buffer::from(bytes));
    let batch = decoder.decode(&mut rest).map_err(damaged)?;
    let schema = decoder.schema().ok_or_else(|| Error::Log("it has no schema".to_owned()))?;
    let batch = batch.ok_or_else(|| Error::Log("it has no batch".to_owned()))?;
    if decoder.decode(&mut rest).map_err(damaged)?.is_some() {
        return Err(Error::Log("it has more than one batch".to_owned()));
    }
    decoder.finish().map_err(damaged)?;
    Ok((schema, batch))
}

fn check_columns(schema: &Schema) -> Result<(), Error> {
    let fixed = fixed_fields();
    if schema.fields().len() < fixed.len() {
        return Err(Error::Log(format!("it has {} columns; expected at least {}", schema.fields().len(), fixed.len())));
    }
    for (position, (found, expected)) in schema.fields().iter().zip(&fixed).enumerate() {
        if found.name() != expected.name() || found.data_type() != expected.data_type() || found.is_nullable() {
            return Err(Error::Log(format!(
                "column {position} is {} {}; expected {} {}, not nullable",
                found.name(),
                found.data_type(),
                expected.name(),
                expected.data_type()
            )));
        }
    }
    let values = || schema.fields().iter().skip(fixed.len());
    let mut names = HashSet::new();
    if let Some(twice) = values().find(|field| !names.insert(field.name())) {
        return Err(Error::Log(format!("it has two columns {}", twice.name())));
    }
    values().try_for_each(|field| check_value_column(field))
}

fn check_value_column(field: &Field) -> Result<(), Error> {
    use DataType as T;
    let known = if OPTIONAL.contains(&field.name().as_str()) {
        *field.data_type() == T::Utf8
    } else if field.name().starts_with(INPUT_PREFIX) {
        matches!(field.data_type(), T::Int64 | T::Float64 | T::Utf8 | T::Boolean)
    } else if field.name().starts_with(OUTPUT_PREFIX) {
        match field.data_type() {
            T::Float32 | T::Utf8 => true,
            T::FixedSizeList(item, width) => item.data_type() == &T::Float32 && *width > 0,
            _ => false,
        }
    } else {
        false
    };
    if known { Ok(()) } else { Err(Error::Log(format!("column {} {} is unknown", field.name(), field.data_type()))) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, StringArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
    };

    use super::*;

    fn header() -> Header {
        Header {
            model: "flights".parse().expect("a name"),
            model_version: 3,
            bundle_digest: Digest::of(b"bundle"),
            replica: "replica-1".parse().expect("a name"),
            incarnation: Uuid::from_u128(7),
            sequence: 9,
            lost_before: 41,
            unsampled_before: 43,
            is_test: false,
        }
    }

    fn batch() -> RecordBatch {
        let probabilities = Float32Array::from(vec![0.25, 0.75, 0.5, 0.5]);
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let schema = schema(
            [("distance", DataType::Float64), ("carrier", DataType::Utf8)],
            [("probabilities", output_type(2)), ("label", DataType::Utf8)],
        );
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1; 16], [2; 16]].into_iter()).expect("16 bytes")),
            Arc::new(UInt32Array::from(vec![0, 1])),
            Arc::new(TimestampMillisecondArray::from(vec![5, 6]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![7, 8]).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![Some(1.5), None])),
            Arc::new(StringArray::from(vec![None, Some("AA")])),
            Arc::new(FixedSizeListArray::try_new(item, 2, Arc::new(probabilities), None).expect("two to a row")),
            Arc::new(StringArray::from(vec!["late", "on time"])),
        ];
        RecordBatch::try_new(schema, columns).expect("columns of the log")
    }

    #[test]
    fn a_message_decodes_to_its_rows_without_metadata() {
        let bytes = encode(&header(), &batch()).expect("encodes");
        let (again, rows) = decode(&bytes).expect("decodes");
        assert_eq!((again, rows.clone()), (header(), batch()));
        assert!(rows.schema().metadata().is_empty());
    }

    #[test]
    fn a_message_without_rows_declares_lost_rows() {
        let bytes = encode(&header(), &batch().slice(0, 0)).expect("encodes");
        let (again, rows) = decode(&bytes).expect("decodes");
        assert_eq!((again.lost_before, rows.num_rows()), (41, 0));
        assert_eq!(rows.schema(), batch().schema());
    }

    #[test]
    fn an_output_has_at_least_one_number() {
        let list = |width| DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), width);
        let fields = |width| schema([], [("probabilities", list(width))]);
        assert!(check_columns(&fields(1)).is_ok());
        assert!(check_columns(&fields(0)).is_err());
    }

    #[test]
    fn no_two_columns_have_one_name() {
        let twice = |second| schema([("a", DataType::Int64), (second, DataType::Utf8)], []);
        assert!(check_columns(&twice("b")).is_ok());
        let error = check_columns(&twice("a")).expect_err("twice").to_string();
        assert!(error.contains("two columns in.a"), "{error}");
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let bytes = encode(&header(), &batch()).expect("encodes");
        for damaged in [&[][..], b"not arrow", &bytes[..bytes.len() / 2]] {
            assert!(matches!(decode(damaged), Err(Error::Log(_))));
        }
    }
}
