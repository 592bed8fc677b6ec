//! ONNX Runtime: a shared library, loaded once, when the first ONNX model is.
//!
//! The library is the one that [`use_library`] names, or else the environment variable `ORT_DYLIB_PATH`, the convention of its bindings;
//! or else the system's loader finds it.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::Error;

/// The environment variable with the path of the library.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The name by which the system's loader finds the library.
const DEFAULT: &str = "libonnxruntime.so";

/// The library that the program has chosen.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
/// The loaded library. A library that could not be loaded is tried again with the next model: it may be installed meanwhile.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// Chooses the library, before the first ONNX model is loaded. The first choice of a process stays: false if there was another.
pub fn use_library(path: impl Into<PathBuf>) -> bool {
    let path = path.into();
    CHOSEN.get_or_init(|| path.clone()) == &path
}

/// Loads the library, unless it is loaded.
///
/// # Errors
/// [`Error::NoLibrary`] if it is not installed, or not usable; the message says what to install.
pub fn load() -> Result<(), Error> {
    environment().map(drop)
}

/// The environment of every session.
pub(super) fn environment() -> Result<Environment, Error> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let path = path();
    let environment = open(&path).map_err(|problem| Error::NoLibrary { path, problem })?;
    Ok(loaded.insert(environment).clone())
}

/// The path of the library, or the name by which the system's loader finds it.
pub fn path() -> PathBuf {
    let of_environment = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    CHOSEN.get().cloned().or_else(of_environment).unwrap_or_else(|| PathBuf::from(DEFAULT))
}

fn open(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder.with_name("rekindle").with_telemetry(false).build().map_err(|error| error.to_string())?;
    // What is wrong is in the errors, and what is odd about a model was said when it was imported.
    environment.set_log_level(LogLevel::Fatal);
    Ok(environment)
}
