//! ONNX Runtime's library, and models in the ONNX format (`integration-tests/data/onnx`).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The library that `scripts/install-tools.sh onnx` installs, or that the variable `ORT_DYLIB_PATH` names.
///
/// # Panics
/// When it is not installed.
pub fn onnx_runtime() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lib/libonnxruntime.so");
    assert!(installed.exists(), "ONNX Runtime is not installed: run scripts/install-tools.sh onnx");
    installed
}

/// The bytes of a file of `integration-tests/data/onnx`, by its path inside.
///
/// # Panics
/// When there is no such file.
pub fn onnx_file(name: impl AsRef<Path>) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/data/onnx").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
