use arrow::{
    array::{Array, cast::AsArray},
    datatypes::{Float64Type, Int64Type},
};
use rekindle_model::signature::Kind;

use super::*;

fn input(name: &str, datatype: Datatype, nullable: bool) -> Input {
    Input { name: name.into(), datatype, kind: Kind::Numeric, nullable }
}

fn plan() -> InputPlan {
    let inputs = vec![
        input("distance", Datatype::Fp64, false),
        input("delay", Datatype::Fp64, true),
        input("stops", Datatype::Int64, false),
        input("night", Datatype::Bool, false),
        input("carrier", Datatype::Bytes, false),
        input("gate", Datatype::Bytes, true),
    ];
    InputPlan::new(&Signature { inputs, outputs: Vec::new(), time_input: None }).expect("servable")
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: HashMap::new(),
        contents: None,
    }
}

fn doubles(values: &[f64]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[i64]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn texts(values: &[&[u8]]) -> Bytes {
    let length = |text: &[u8]| u32::try_from(text.len()).expect("short").to_le_bytes();
    values.iter().flat_map(|text| length(text).into_iter().chain(text.iter().copied())).collect()
}

/// Two good rows, raw.
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

/// The same two rows with typed contents, inputs in another order.
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
fn raw_and_typed_requests_give_the_same_rows() {
    let rows = plan().decode(&good(), 10).expect("decodes");
    assert_eq!(rows, plan().decode(&good_typed(), 10).expect("decodes"));
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
        ("INT16", [-7i16, 5].iter().flat_map(|v| v.to_le_bytes()).collect(), -7),
        ("INT32", [-70_000i32, 5].iter().flat_map(|v| v.to_le_bytes()).collect(), -70_000),
        ("INT64", longs(&[-9, 5]), -9),
        ("UINT8", Bytes::from_static(&[0xff, 5]), 255),
        ("UINT16", [65_535u16, 5].iter().flat_map(|v| v.to_le_bytes()).collect(), 65_535),
        ("UINT32", [u32::MAX, 5].iter().flat_map(|v| v.to_le_bytes()).collect(), 4_294_967_295),
    ];
    for (datatype, raw, first) in cases {
        let mut request = good();
        for at in [0, 2] {
            request.inputs[at].datatype = datatype.into();
            request.raw_input_contents[at] = raw.clone();
        }
        let rows = plan().decode(&request, 10).expect(datatype);
        assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[first, 5], "{datatype}");
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let float = first as f64;
        assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[float, 5.0], "{datatype}");
    }
}

#[test]
fn singles_and_unsigned_longs_feed_doubles() {
    let mut request = good();
    request.inputs[0].datatype = "FP32".into();
    request.raw_input_contents[0] = [0.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    request.inputs[1].datatype = "UINT64".into();
    request.raw_input_contents[1] = longs(&[0, 1 << 53]);
    let rows = plan().decode(&request, 10).expect("decodes");
    assert_eq!(rows.column(0).as_primitive::<Float64Type>().values(), &[0.5, -2.0]);
    assert_eq!(rows.column(1).as_primitive::<Float64Type>().values(), &[0.0, 9_007_199_254_740_992.0]);
}

/// A change to a good request, the field that must be blamed, and words that the problem must hold.
type Case = (fn(&mut ModelInferRequest), &'static str, &'static str);

fn refuses(good: fn() -> ModelInferRequest, cases: &[Case]) {
    for (spoil, field, words) in cases {
        let mut request = good();
        spoil(&mut request);
        let bad = plan().decode(&request, 10).expect_err(words);
        assert_eq!(bad.field, *field, "{bad}");
        assert!(bad.problem.contains(words), "{bad} does not say {words:?}");
    }
}

#[test]
fn each_bad_raw_request_is_refused_by_name() {
    refuses(
        good,
        &[
            (|r| *r = ModelInferRequest::default(), "inputs", "empty"),
            (|r| r.inputs[0].name = "altitude".into(), "inputs[altitude]", "it takes distance, delay, stops"),
            (|r| r.inputs[1].name = "distance".into(), "inputs[distance]", "twice"),
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
            (|r| r.inputs[2].shape = vec![3], "inputs[stops]", "has 3 rows where input \"distance\" has 2"),
            (|r| r.inputs[0].datatype = "FP16".into(), "inputs[distance]", "\"FP16\", expected FP64"),
            (|r| r.inputs[2].datatype = "FP64".into(), "inputs[stops]", "expected INT64"),
            (|r| r.inputs[2].datatype = "UINT64".into(), "inputs[stops]", "expected INT64"),
            (|r| r.inputs[3].datatype = "UINT8".into(), "inputs[night]", "expected BOOL"),
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
                "cannot hold exactly",
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
fn each_bad_typed_request_is_refused_by_name() {
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
                "row 1 is 128, outside of its datatype: expected -128 to 127",
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
fn a_long_name_is_not_repeated_whole() {
    let mut request = good();
    request.inputs[0].name = "x".repeat(100_000);
    let bad = plan().decode(&request, 10).expect_err("unknown");
    assert!(bad.to_string().len() < 300, "{}", bad.to_string().len());
}
