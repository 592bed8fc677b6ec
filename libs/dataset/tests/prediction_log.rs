//! Messages of the prediction log.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
    },
    datatypes::{DataType, Field, Schema},
    ipc::writer::StreamWriter,
};
use rekindle_dataset::{
    Error,
    prediction_log::{Header, MAX_BYTES, decode, encode, output_type, schema},
};
use rekindle_domain::Digest;
use uuid::Uuid;

fn header() -> Header {
    Header {
        model: "flight-delay".parse().unwrap(),
        model_version: 3,
        bundle_digest: Digest::of(b"bundle"),
        replica: "replica-1".parse().unwrap(),
        incarnation: Uuid::from_u128(7),
        sequence: 41,
        lost_before: 2,
        unsampled_before: 3,
        is_test: true,
    }
}

fn batch(rows: u32) -> RecordBatch {
    let ids =
        FixedSizeBinaryArray::try_from_iter((0..rows).map(|i| Uuid::from_u128(u128::from(i)).into_bytes())).unwrap();
    let DataType::FixedSizeList(item, 2) = output_type(2) else { panic!("a list of two") };
    let numbers = Float32Array::from_iter_values((0..2 * rows).map(|_| 0.5));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(UInt32Array::from_iter_values(0..rows)),
        Arc::new(TimestampMillisecondArray::from_iter_values((0..rows).map(i64::from)).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(i64::from)).with_timezone("UTC")),
        Arc::new((0..rows).map(|i| (i > 0).then_some(i64::from(i))).collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values((0..rows).map(|_| "JFK"))),
        Arc::new(FixedSizeListArray::new(item, 2, Arc::new(numbers), None)),
    ];
    let inputs = [("distance", DataType::Int64), ("origin", DataType::Utf8)];
    RecordBatch::try_new(schema(inputs, [("probabilities", output_type(2))]), columns).unwrap()
}

fn raw(batch: &RecordBatch, metadata: HashMap<String, String>, batches: usize) -> Vec<u8> {
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
    let batch = batch.clone().with_schema(schema.clone()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
    (0..batches).for_each(|_| writer.write(&batch).unwrap());
    writer.finish().unwrap();
    drop(writer);
    bytes
}

#[test]
fn a_message_decodes_to_what_was_encoded() {
    let bytes = encode(&header(), &batch(5)).unwrap();
    let (who, rows) = decode(&bytes).unwrap();
    assert_eq!(who, header());
    assert_eq!(rows, batch(5));
    assert_eq!(who.message_id(), "replica-1/00000000-0000-0000-0000-000000000007/41");
}

#[test]
fn the_error_of_an_oversized_message_names_its_size() {
    let Err(Error::LogTooLarge { rows, bytes, limit }) = encode(&header(), &batch(20_000)) else {
        panic!("it should be refused")
    };
    assert!(rows == 20_000 && bytes > limit && limit == MAX_BYTES);
}

#[test]
fn invalid_messages_are_refused() {
    let good = encode(&header(), &batch(3)).unwrap();
    for bytes in [&b""[..], b"hello", &good[..good.len() / 2], &good[..40]] {
        assert!(matches!(decode(bytes), Err(Error::Log(_))));
    }
    let metadata = || -> HashMap<String, String> {
        let reader = arrow::ipc::reader::StreamReader::try_new(&good[..], None).unwrap();
        reader.schema().metadata().clone()
    };
    assert!(decode(&raw(&batch(3), metadata(), 1)).is_ok());
    assert!(decode(&raw(&batch(3), metadata(), 0)).unwrap_err().to_string().contains("no batch"));
    assert!(decode(&raw(&batch(3), metadata(), 2)).unwrap_err().to_string().contains("more than one"));
    let mut without = metadata();
    without.remove("replica");
    assert!(decode(&raw(&batch(3), without, 1)).unwrap_err().to_string().contains("replica"));
    let mut wrong = metadata();
    wrong.insert("model".to_owned(), "No Such Name".to_owned());
    assert!(decode(&raw(&batch(3), wrong, 1)).unwrap_err().to_string().contains("No Such Name"));
}

/// After any change of a few bytes the result is a message or an error.
#[test]
fn corrupted_messages_never_panic() {
    let good = encode(&header(), &batch(3)).unwrap();
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            let _ = decode(&bad);
        }
        assert!(at + 8 >= good.len() || decode(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn other_columns_are_refused_on_both_sides() {
    let odd = Arc::new(Schema::new(vec![Field::new("row", DataType::UInt32, false)]));
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(vec![0]))];
    assert!(matches!(encode(&header(), &RecordBatch::try_new(odd, columns).unwrap()), Err(Error::Log(_))));
    let good = batch(2);
    let mut fields: Vec<Field> = good.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields[4] = fields[4].clone().with_name("distance");
    let renamed = RecordBatch::try_new(Arc::new(Schema::new(fields)), good.columns().to_vec()).unwrap();
    let message = encode(&header(), &renamed).unwrap_err().to_string();
    assert!(message.contains("distance Int64 is unknown"), "{message}");
}
