use std::collections::BTreeMap;

use arrow::{
    array::{Array, RecordBatch, cast::AsArray},
    datatypes::{Float64Type, Int64Type},
};
use bytes::Bytes;
use rekindle_bundle::{Datatype, Input, Signature};
use rekindle_client::wire::raw;
use rekindle_domain::ColumnKind;

use super::*;
use crate::tensor::Inputs;

const ACCEPTED: Accepted = Accepted { rows: 10, unknown_inputs: false };

fn input(name: &str, datatype: Datatype, nullable: bool) -> Input {
    Input { name: name.into(), datatype, kind: ColumnKind::Numeric, nullable }
}

fn inputs() -> Inputs {
    let inputs = vec![
        input("distance", Datatype::Fp64, false),
        input("delay", Datatype::Fp64, true),
        input("stops", Datatype::Int64, false),
        input("night", Datatype::Bool, false),
        input("carrier", Datatype::Bytes, false),
        input("gate", Datatype::Bytes, true),
    ];
    Inputs::new(&Signature { inputs, outputs: Vec::new(), time_input: None }).expect("a signature that can be served")
}

fn decode(request: &ModelInferRequest) -> Result<RecordBatch, InvalidInput> {
    inputs().decode(tensors(request)?, ACCEPTED).map(|rows| rows.inputs)
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: BTreeMap::new(),
        contents: None,
    }
}

fn doubles(values: &[f64]) -> Bytes {
    raw::encode(values, f64::to_le_bytes)
}

fn longs(values: &[i64]) -> Bytes {
    raw::encode(values, i64::to_le_bytes)
}

fn texts(values: &[&[u8]]) -> Bytes {
    let length = |text: &[u8]| u32::try_from(text.len()).expect("short").to_le_bytes();
    values.iter().flat_map(|text| length(text).into_iter().chain(text.iter().copied())).collect()
}

/// Two valid rows, raw.
fn good() -> ModelInferRequest {
    ModelInferRequest {
        inputs: vec![
            tensor("distance", "FP64", &[2]),
            tensor("delay", "FP64", &[2, 1]),
            tensor("stops", "INT64", &[2]),
            tensor("night", "BOOL", &[2]),
            tensor("carrier", "BYTES", &[2]),
            tensor("gate", "BYTES", &[2]),
        ],
        raw_input_contents: vec![
            doubles(&[1.5, 2.5]),
            doubles(&[f64::NAN, 4.0]),
            longs(&[-3, i64::MAX]),
            Bytes::from_static(&[0, 1]),
            texts(&[b"AA", "Žďár".as_bytes()]),
            texts(&[b"", b"B7"]),
        ],
        ..Default::default()
    }
}

/// The same two rows with typed contents and the inputs in another order.
fn good_typed() -> ModelInferRequest {
    let mut request = good();
    request.raw_input_contents.clear();
    let contents = [
        InferTensorContents { fp64_contents: vec![1.5, 2.5], ..Default::default() },
        InferTensorContents { fp64_contents: vec![f64::NAN, 4.0], ..Default::default() },
        InferTensorContents { int64_contents: vec![-3, i64::MAX], ..Default::default() },
        InferTensorContents { bool_contents: vec![false, true], ..Default::default() },
        InferTensorContents { bytes_contents: vec![b"AA".to_vec(), "Žďár".into()], ..Default::default() },
        InferTensorContents { bytes_contents: vec![Vec::new(), b"B7".to_vec()], ..Default::default() },
    ];
    for (tensor, contents) in request.inputs.iter_mut().zip(contents) {
        tensor.contents = Some(contents);
    }
    request.inputs.reverse();
    request
}

#[test]
fn raw_and_typed_requests_decode_to_the_same_rows() {
    let rows = decode(&good()).expect("decodes");
    assert_eq!(rows, decode(&good_typed()).expect("decodes"));
    assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[1.5, 2.5]);
    assert!(rows.column(1).is_null(0) && rows.column(1).is_valid(1), "NaN means missing");
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[-3, i64::MAX]);
    assert!(!rows.column(3).as_boolean().value(0) && rows.column(3).as_boolean().value(1));
    assert_eq!(rows.column(4).as_string::<i32>().value(1), "Žďár");
    assert!(rows.column(5).is_null(0) && rows.column(5).is_valid(1), "an empty text means missing");
}

#[test]
fn narrower_types_are_widened() {
    let cases: [(&str, Bytes, i64); 7] = [
        ("INT8", Bytes::from_static(&[0x80, 5]), -128),
        ("INT16", raw::encode(&[-7, 5], i16::to_le_bytes), -7),
        ("INT32", raw::encode(&[-70_000, 5], i32::to_le_bytes), -70_000),
        ("INT64", longs(&[-9, 5]), -9),
        ("UINT8", Bytes::from_static(&[0xff, 5]), 255),
        ("UINT16", raw::encode(&[65_535, 5], u16::to_le_bytes), 65_535),
        ("UINT32", raw::encode(&[u32::MAX, 5], u32::to_le_bytes), 4_294_967_295),
    ];
    for (datatype, raw, first) in cases {
        let mut request = good();
        for at in [0, 2] {
            request.inputs[at].datatype = datatype.into();
            request.raw_input_contents[at] = raw.clone();
        }
        let rows = decode(&request).expect(datatype);
        assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[first, 5], "{datatype}");
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let float = first as f64;
        assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[float, 5.0], "{datatype}");
    }
}

#[test]
fn singles_and_unsigned_longs_are_widened_to_doubles() {
    let mut request = good();
    request.inputs[0].datatype = "FP32".into();
    request.raw_input_contents[0] = raw::encode(&[0.5, -2.0], f32::to_le_bytes);
    request.inputs[1].datatype = "UINT64".into();
    request.raw_input_contents[1] = longs(&[0, 1 << 53]);
    let rows = decode(&request).expect("decodes");
    assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[0.5, -2.0]);
    assert_eq!(rows.column(1).as_primitive::<Float64Type>().values(), &[0.0, 9_007_199_254_740_992.0]);
}

/// A change to a valid request, the field that the error must name, and words of the error.
type Case = (fn(&mut ModelInferRequest), &'static str, &'static str);

fn refuses(good: fn() -> ModelInferRequest, cases: &[Case]) {
    for (spoil, field, words) in cases {
        let mut request = good();
        spoil(&mut request);
        let error = decode(&request).expect_err(words);
        assert_eq!(error.field, *field, "{error}");
        assert!(error.problem.contains(words), "{error} does not contain {words:?}");
    }
}

#[test]
fn every_invalid_raw_request_is_refused_with_the_name_of_the_field() {
    refuses(
        good,
        &[
            (|r| *r = ModelInferRequest::default(), "inputs", "empty"),
            (|r| r.inputs[0].name = "altitude".into(), "inputs[altitude]", "its inputs are distance, delay, stops"),
            (|r| r.inputs[1].name = "distance".into(), "inputs[distance]", "occurs twice"),
            (
                |r| {
                    r.inputs.pop();
                    r.raw_input_contents.pop();
                },
                "inputs[gate]",
                "missing: send a BYTES tensor",
            ),
            (|r| drop(r.raw_input_contents.pop()), "raw_input_contents", "5 entries for 6 inputs"),
            (
                |r| {
                    let contents = InferTensorContents { fp64_contents: vec![1.0, 2.0], ..Default::default() };
                    r.inputs[0].contents = Some(contents);
                },
                "inputs[distance]",
                "one or the other",
            ),
            (|r| r.inputs[0].shape = vec![1, 2], "inputs[distance]", "shape [1, 2], expected [n]"),
            (|r| r.inputs[1].shape = vec![], "inputs[delay]", "shape []"),
            (|r| r.inputs[0].shape = vec![-1], "inputs[distance]", "shape [-1]"),
            (|r| r.inputs[0].shape = vec![0], "inputs[distance]", "no rows"),
            (|r| r.inputs[0].shape = vec![11], "inputs[distance]", "max_rows_per_request = 10"),
            (|r| r.inputs[2].shape = vec![3], "inputs[stops]", "has 3 rows but input \"distance\" has 2"),
            (|r| r.inputs[0].datatype = "FP8".into(), "inputs[distance]", "\"FP8\", expected FP64"),
            (|r| r.inputs[2].datatype = "BOOL".into(), "inputs[stops]", "expected INT64"),
            (|r| r.inputs[2].datatype = "UINT64".into(), "inputs[stops]", "above the largest INT64"),
            (|r| r.inputs[3].datatype = "BYTES".into(), "inputs[night]", "expected BOOL"),
            (|r| r.raw_input_contents[3] = Bytes::from_static(&[0, 2]), "inputs[night]", "expected 0 or 1"),
            (|r| r.inputs[4].datatype = "FP64".into(), "inputs[carrier]", "expected BYTES"),
            (|r| r.raw_input_contents[0] = doubles(&[1.0]), "inputs[distance]", "8 raw bytes, expected 16"),
            (|r| drop(r.raw_input_contents[0].split_off(15)), "inputs[distance]", "15 raw bytes"),
            (|r| r.raw_input_contents[3] = Bytes::from_static(&[0, 2]), "inputs[night]", "row 1 is the byte 2"),
            (|r| r.raw_input_contents[0] = doubles(&[1.0, f64::NAN]), "inputs[distance]", "row 1 is NaN"),
            (|r| r.raw_input_contents[1] = doubles(&[f64::NAN, f64::INFINITY]), "inputs[delay]", "row 1 is infinite"),
            (|r| r.raw_input_contents[0] = doubles(&[f64::NEG_INFINITY, 1.0]), "inputs[distance]", "row 0 is infinite"),
            (
                |r| {
                    r.inputs[0].datatype = "INT64".into();
                    r.raw_input_contents[0] = longs(&[1, (1 << 53) + 1]);
                },
                "inputs[distance]",
                "cannot represent exactly",
            ),
            (|r| r.raw_input_contents[4] = texts(&[b"AA", b""]), "inputs[carrier]", "row 1 is empty"),
            (|r| r.raw_input_contents[4] = texts(&[b"AA", b"\xff"]), "inputs[carrier]", "row 1 is not UTF-8"),
            (|r| r.raw_input_contents[4] = texts(&[b"AA"]), "inputs[carrier]", "ends within row 1"),
            (|r| r.raw_input_contents[4] = Bytes::from_static(&[255; 4]), "inputs[carrier]", "ends within row 0"),
            (|r| r.raw_input_contents[4] = texts(&[b"A", b"B", b"C"]), "inputs[carrier]", "after its 2 elements"),
        ],
    );
}

#[test]
fn every_invalid_typed_request_is_refused_with_the_name_of_the_field() {
    fn replace(request: &mut ModelInferRequest, name: &str, datatype: &str, with: InferTensorContents) {
        let tensor = request.inputs.iter_mut().find(|tensor| tensor.name == name).expect("an input");
        tensor.datatype = datatype.into();
        tensor.contents = Some(with);
    }
    refuses(
        good_typed,
        &[
            (
                |r| replace(r, "distance", "FP64", InferTensorContents::default()),
                "inputs[distance]",
                "0 elements in fp64_contents, expected 2",
            ),
            (
                |r| {
                    let single = InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
                    replace(r, "distance", "FP64", single);
                },
                "inputs[distance]",
                "0 elements in fp64_contents",
            ),
            (
                |r| {
                    let wide = InferTensorContents { int_contents: vec![1, 128], ..Default::default() };
                    replace(r, "stops", "INT8", wide);
                },
                "inputs[stops]",
                "row 1 is 128, outside the range of its datatype: expected -128 to 127",
            ),
            (
                |r| {
                    let wide = InferTensorContents { uint_contents: vec![65_536, 1], ..Default::default() };
                    replace(r, "stops", "UINT16", wide);
                },
                "inputs[stops]",
                "expected 0 to 65535",
            ),
            (|r| r.inputs[0].contents = None, "inputs[gate]", "0 elements in bytes_contents"),
        ],
    );
}

#[test]
fn a_long_name_is_shortened_in_the_error() {
    let mut request = good();
    request.inputs[0].name = "x".repeat(100_000);
    let error = decode(&request).expect_err("unknown");
    assert!(error.to_string().len() < 300, "{}", error.to_string().len());
}

/// Inputs of each type that were missing in training, and one that never was.
fn with_holes() -> Inputs {
    let inputs = vec![
        input("seats", Datatype::Int64, true),
        input("direct", Datatype::Bool, true),
        Input { kind: ColumnKind::Timestamp, ..input("booked", Datatype::Int64, true) },
        input("fare", Datatype::Fp64, true),
        input("note", Datatype::Bytes, true),
        input("miles", Datatype::Int64, false),
    ];
    Inputs::new(&Signature { inputs, outputs: Vec::new(), time_input: None }).expect("a signature that can be served")
}

/// Two rows, of which `valid` marks the first as missing in every feature but the last.
fn holes() -> ModelInferRequest {
    let features: [(&str, &str, Bytes); 6] = [
        ("seats", "INT64", longs(&[0, 12_345_678_901_234_567])),
        ("direct", "BOOL", Bytes::from_static(&[0, 1])),
        ("booked", "INT64", longs(&[i64::MIN, 7])),
        ("fare", "FP64", doubles(&[f64::INFINITY, 1.5])),
        ("note", "BYTES", texts(&[b"\xff", b"x"])),
        ("miles", "INT64", longs(&[3, 4])),
    ];
    let valid = features[..5].iter().map(|(name, ..)| (format!("{name}.valid"), "BOOL", Bytes::from_static(&[0, 1])));
    let features = features.iter().map(|(name, datatype, raw)| ((*name).to_owned(), *datatype, raw.clone()));
    let (inputs, raw_input_contents) =
        features.chain(valid).map(|(name, datatype, raw)| (tensor(&name, datatype, &[2]), raw)).unzip();
    ModelInferRequest { inputs, raw_input_contents, ..Default::default() }
}

#[test]
fn a_value_of_any_type_can_be_marked_as_missing() {
    let rows = with_holes().decode(tensors(&holes()).expect("tensors"), ACCEPTED).expect("valid").inputs;
    for (column, name) in rows.columns().iter().zip(["seats", "direct", "booked", "fare", "note"]) {
        assert_eq!((column.is_null(0), column.is_null(1)), (true, false), "{name}");
    }
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(1), 12_345_678_901_234_567, "every digit");
    assert_eq!(rows.column(5).null_count(), 0);
}

#[test]
fn whole_numbers_in_a_float_tensor_are_integers_and_not_a_number_is_missing() {
    let mut request = holes();
    request.inputs.truncate(6);
    request.raw_input_contents.truncate(6);
    let replace = |request: &mut ModelInferRequest, at: usize, datatype: &str, raw| {
        request.inputs[at].datatype = datatype.into();
        request.raw_input_contents[at] = raw;
    };
    replace(&mut request, 0, "FP64", doubles(&[f64::NAN, 4.0]));
    replace(&mut request, 2, "INT64", longs(&[0, 7]));
    replace(&mut request, 3, "FP64", doubles(&[0.5, 1.5]));
    replace(&mut request, 4, "BYTES", texts(&[b"", b"x"]));
    let rows = with_holes().decode(tensors(&request).expect("tensors"), ACCEPTED).expect("valid").inputs;
    let seats = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!((seats.is_null(0), seats.value(1)), (true, 4));
    for (values, problem) in [
        ([0.0, 1.5], "row 1 is 1.5, expected a whole number"),
        ([0.0, f64::INFINITY], "row 1 is infinite"),
        ([1e17, 0.0], "above 2^53"),
    ] {
        replace(&mut request, 0, "FP64", doubles(&values));
        let refused = with_holes().decode(tensors(&request).expect("tensors"), ACCEPTED).expect_err(problem);
        assert_eq!(refused.field, "inputs[seats]");
        assert!(refused.problem.contains(problem), "{refused}");
    }
}

#[test]
fn a_wrong_mark_is_refused_by_its_name() {
    let mut request = holes();
    request.inputs[6].datatype = "UINT8".into();
    let mut others = holes();
    others.inputs.push(tensor("miles.valid", "BOOL", &[2]));
    others.raw_input_contents.push(Bytes::from_static(&[1, 0]));
    let mut twice = holes();
    twice.inputs[6].name = "direct.valid".into();
    let mut unknown = holes();
    unknown.inputs[6].name = "colour.valid".into();
    for (request, field, words) in [
        (request, "inputs[seats.valid]", "expected BOOL"),
        (others, "inputs[miles]", "row 1 is missing by miles.valid, but this feature was never missing in training"),
        (twice, "inputs[direct.valid]", "occurs twice"),
        (unknown, "inputs[colour.valid]", "is not an input"),
    ] {
        let refused = with_holes().decode(tensors(&request).expect("tensors"), ACCEPTED).expect_err(words);
        assert_eq!(refused.field, field);
        assert!(refused.problem.contains(words), "{refused}");
    }
}

#[test]
fn entity_keys_are_read_and_bounded() {
    let with = |datatype: &str, shape: &[i64], keys: Bytes| {
        let mut request = good();
        request.inputs.push(tensor("entity_key", datatype, shape));
        request.raw_input_contents.push(keys);
        inputs().decode(tensors(&request).expect("tensors"), ACCEPTED).map(|rows| rows.entity_keys)
    };
    let keys = with("BYTES", &[2], texts(&[b"N1", b""])).expect("valid").expect("given");
    assert_eq!(keys.iter().collect::<Vec<_>>(), [Some("N1"), None]);
    let long = [b'x'; 257];
    for (refused, words) in [
        (with("INT64", &[2], longs(&[1, 2])), "has datatype INT64, expected BYTES"),
        (with("BYTES", &[1], texts(&[b"N1"])), "rows"),
        (with("BYTES", &[2], texts(&[b"N1", &long])), "row 1 has 257 bytes, expected at most 256"),
        (with("BYTES", &[2], texts(&[b"\xff", b""])), "row 0 is not UTF-8 text"),
    ] {
        let refused = refused.expect_err(words).to_string();
        assert!(refused.starts_with("inputs[entity_key]: ") && refused.contains(words), "{refused}");
    }
    let feature =
        Signature { inputs: vec![input("entity_key", Datatype::Bytes, false)], outputs: Vec::new(), time_input: None };
    let mut request =
        ModelInferRequest { inputs: vec![tensor("entity_key", "BYTES", &[1])], ..ModelInferRequest::default() };
    request.raw_input_contents.push(texts(&[b"N1"]));
    let rows =
        Inputs::new(&feature).expect("served").decode(tensors(&request).expect("tensors"), ACCEPTED).expect("valid");
    assert_eq!((rows.inputs.num_columns(), rows.entity_keys), (1, None), "an input of this name is an input");
}

/// Three numeric features.
fn numeric() -> Inputs {
    let inputs = vec![
        input("distance", Datatype::Fp64, false),
        input("delay", Datatype::Fp64, true),
        input("stops", Datatype::Int64, false),
        input("night", Datatype::Bool, false),
    ];
    Inputs::new(&Signature { inputs, outputs: Vec::new(), time_input: None }).expect("a signature that can be served")
}

fn matrix(datatype: &str, shape: &[i64], raw: Bytes) -> ModelInferRequest {
    let inputs = vec![tensor("features", datatype, shape)];
    ModelInferRequest { inputs, raw_input_contents: vec![raw], ..Default::default() }
}

#[test]
fn numeric_features_are_taken_as_one_tensor_in_the_order_of_the_metadata() {
    let values = [1.5, f64::NAN, 3.0, 1.0, 2.5, 4.0, -7.0, 0.0];
    let singles: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let decode = |request: &ModelInferRequest| numeric().decode(tensors(request)?, ACCEPTED).map(|rows| rows.inputs);
    let rows = decode(&matrix("FP64", &[2, 4], doubles(&values))).expect("decodes");
    assert_eq!(rows, decode(&matrix("FP32", &[2, 4], raw::encode(&singles, f32::to_le_bytes))).expect("decodes"));
    assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[1.5, 2.5]);
    assert!(rows.column(1).is_null(0) && rows.column(1).is_valid(1));
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[3, -7]);
    assert!(rows.column(3).as_boolean().value(0) && !rows.column(3).as_boolean().value(1));

    let fractional = [1.5, 2.5, 3.25, 1.0];
    let mut with_own = matrix("FP64", &[1, 4], doubles(&fractional));
    with_own.inputs.push(tensor("delay", "FP64", &[1]));
    with_own.raw_input_contents.push(doubles(&[1.0]));
    for (request, words) in [
        (matrix("FP64", &[1, 4], doubles(&fractional)), "column 2 (stops): row 0 is 3.25, expected a whole number"),
        (matrix("FP64", &[1, 4], doubles(&[1.0, 1.0, 1.0, 2.0])), "column 3 (night): row 0 is 2, expected 0 or 1"),
        (matrix("FP64", &[1, 4], doubles(&[1.0; 3])), "has 24 raw bytes, expected 32"),
        (matrix("INT64", &[1, 4], longs(&[1; 4])), "expected FP32 or FP64"),
        (matrix("FP64", &[1, 3], doubles(&[1.0; 3])), "or all of them as one tensor of shape [n, 4]"),
        (with_own, "\"delay\" its own tensor"),
    ] {
        let refused = decode(&request).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn a_tensor_that_is_no_input_is_ignored_where_that_is_set() {
    let mut request = good();
    request.inputs.push(tensor("colour", "BYTES", &[2]));
    request.raw_input_contents.push(texts(&[b"red", b"blue"]));
    let decode = |accepted: Accepted| inputs().decode(tensors(&request).expect("tensors"), accepted);
    let refused = decode(ACCEPTED).expect_err("no such input").to_string();
    assert!(refused.starts_with("inputs[colour]") && refused.contains("distance, delay, stops"), "{refused}");
    let ignored = decode(Accepted { unknown_inputs: true, ..ACCEPTED }).expect("decodes");
    assert_eq!(ignored.inputs.num_columns(), 6);
}
