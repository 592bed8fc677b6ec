//! The process of a task: it limits itself, carries the task out, and writes how it ended.

use std::{collections::BTreeMap, fs, io, path::Path};

use bytes::Bytes;
use nix::sys::resource::{Resource, setrlimit};
use rekindle_bundle::{
    Backend, Bundle, Error as BundleError, Manifest,
    manifest::MODEL,
    onnx::{self, Data},
};

use super::{
    Outcome, Request, Task,
    folder::{MANIFEST, OUTCOME, REQUEST, ROWS},
};

/// Carries out the task in a folder. The process should end afterwards: its limits stay.
///
/// # Errors
/// A file of the folder cannot be read or written, or a limit cannot be set. A model that is refused is an outcome.
pub fn check_model(folder: &Path) -> io::Result<()> {
    let Request { task, memory_bytes, seconds } = serde_json::from_slice(&fs::read(folder.join(REQUEST))?)?;
    limit(memory_bytes, seconds)?;
    let outcome = match carry_out(folder, task) {
        Ok(()) => Outcome::Done,
        Err(Failure::Io(error)) => return Err(error),
        Err(Failure::Rows(problem)) => Outcome::Refused { field: Some("dataset".to_owned()), problem },
        Err(Failure::Bundle(error)) => refused(&error),
    };
    fs::write(folder.join(OUTCOME), serde_json::to_vec(&outcome)?)
}

fn limit(memory_bytes: u64, seconds: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, memory_bytes, memory_bytes)?;
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Why a task is not carried out.
enum Failure {
    /// A file of the folder.
    Io(io::Error),
    /// The rows of the dataset.
    Rows(String),
    /// The model.
    Bundle(BundleError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

fn carry_out(folder: &Path, task: Task) -> Result<(), Failure> {
    let read = |name: &str| fs::read(folder.join(name)).map(Bytes::from);
    match task {
        Task::Validate => {
            let manifest = Manifest::from_bytes(&read(MANIFEST)?)?;
            let optional = Backend::OPTIONAL_ROLES.iter().filter(|role| manifest.blobs.contains_key(**role));
            let roles = Backend::Onnx.roles().iter().chain(optional);
            let blobs =
                roles.map(|&role| Ok((role.to_owned(), read(role)?))).collect::<io::Result<BTreeMap<_, _>>>()?;
            Ok(Bundle { manifest, blobs }.validate()?)
        }
        Task::Import { options, dataset, external } => {
            if !external.is_empty() {
                let files = external.into_iter().map(|(name, file)| Ok((name, read(&file)?)));
                let files = files.collect::<io::Result<BTreeMap<_, _>>>()?;
                fs::write(folder.join(MODEL), onnx::embed(&read(MODEL)?, &files)?)?;
            }
            let table = match dataset.is_some() {
                true => Some(
                    rekindle_dataset::read_parquet(read(ROWS)?).map_err(|error| Failure::Rows(error.to_string()))?,
                ),
                false => None,
            };
            let data = table.as_ref().zip(dataset.as_ref()).map(|(table, dataset)| Data {
                rows: &table.batch,
                digest: dataset.digest,
                time_column: dataset.time_column.as_deref(),
            });
            let bundle = onnx::import(read(MODEL)?, &options, data)?;
            bundle.validate()?;
            fs::write(folder.join(MANIFEST), bundle.manifest_bytes()?)?;
            for (role, bytes) in bundle.blobs.iter().filter(|(role, _)| *role != MODEL) {
                fs::write(folder.join(role), bytes)?;
            }
            Ok(())
        }
    }
}

/// The field of the request that an error is about.
fn refused(error: &BundleError) -> Outcome {
    let problem = error.to_string();
    let of_dataset = "dataset".to_owned();
    match error {
        BundleError::NoLibrary { .. } => Outcome::NoLibrary(problem),
        BundleError::Import { field, problem } => {
            Outcome::Refused { field: Some((*field).to_owned()), problem: problem.clone() }
        }
        BundleError::InputMissing(_)
        | BundleError::InputType { .. }
        | BundleError::ValueMissing { .. }
        | BundleError::OutOfRange { .. }
        | BundleError::Target { .. }
        | BundleError::Label { .. } => Outcome::Refused { field: Some(of_dataset), problem },
        _ => Outcome::Refused { field: None, problem },
    }
}
