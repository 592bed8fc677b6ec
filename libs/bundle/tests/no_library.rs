//! Where ONNX Runtime is not installed: networks work, and an ONNX model says what to install. A test of its own process.

use bytes::Bytes;
use rekindle_bundle::{
    Error, Model,
    onnx::{Import, import, library},
};
use rekindle_testkit::onnx_file;

#[test]
fn an_onnx_model_without_its_library_says_what_to_install() {
    assert!(library::use_library("/nowhere/libonnxruntime.so"));
    let options = Import { target: "y".to_owned(), ..Import::default() };
    let bundle = import(Bytes::from(onnx_file("sklearn_linear.onnx")), &options, None).expect("nothing is run");
    let error = Model::from_bundle(&bundle).expect_err("no library");
    assert!(matches!(error, Error::NoLibrary { .. }), "{error:?}");
    let message = error.to_string();
    for part in ["/nowhere/libonnxruntime.so", "pip install onnxruntime", "ORT_DYLIB_PATH"] {
        assert!(message.contains(part), "{message}");
    }
}
