//! Models in the ONNX format are read and run for the first time in a process of their own: a file that makes ONNX Runtime crash, or take
//! all memory or time, costs that process, and is refused.
//!
//! The parent writes what the process needs to a folder, and the process writes its outcome there. It limits its own address space and
//! processor time first; the parent ends it after the same time.

mod child;
mod folder;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use nix::sys::signal::Signal;
use rekindle_bundle::onnx::{Import, library};
use rekindle_domain::Digest;
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};

pub use self::child::check_model;
pub(crate) use self::folder::{Folder, MANIFEST, ROWS};
use crate::{Error, config::OnnxConfig};

/// Starts the processes.
#[derive(Debug, Clone)]
pub(crate) struct Isolation {
    config: OnnxConfig,
    /// In which the folders lie.
    scratch: PathBuf,
}

/// What the process does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Checks the bundle in the folder, which a replica would load.
    Validate,
    /// Makes a bundle of the file in the folder.
    Import {
        /// What the request says of the file.
        options: Box<Import>,
        /// The dataset whose rows are in the folder.
        dataset: Option<Dataset>,
        /// Files of the folder with data of the model's tensors, by the names that the model has for them. The model in the folder is
        /// replaced by one that has them.
        external: BTreeMap<String, String>,
    },
}

/// What a dataset version is beside its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dataset {
    /// The content digest.
    pub(crate) digest: Digest,
    /// The column with the time of a row.
    pub(crate) time_column: Option<String>,
}

/// The task with its limits.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    task: Task,
    memory_bytes: u64,
    seconds: u64,
}

/// How a task ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The bundle is valid, or was made.
    Done,
    /// The file cannot become a version.
    Refused {
        /// The option that is at fault; none if it is the file.
        field: Option<String>,
        /// Why, and the remedy.
        problem: String,
    },
    /// ONNX Runtime is not installed; the sentence says what to install.
    NoLibrary(String),
}

impl Isolation {
    pub(crate) fn new(config: OnnxConfig, scratch: PathBuf) -> Self {
        Self { config, scratch }
    }

    /// An empty folder for a task.
    pub(crate) fn folder(&self) -> Result<Folder, Error> {
        Folder::create(&self.scratch)
    }

    /// Bytes of the blob of a dataset, at most.
    pub(crate) fn dataset_bytes(&self) -> u64 {
        self.config.dataset_bytes
    }

    /// Carries out a task on what the folder has.
    pub(crate) async fn run(&self, folder: &Folder, task: Task) -> Result<Outcome, Error> {
        let OnnxConfig { memory_bytes, time, .. } = self.config;
        folder.write_json(folder::REQUEST, &Request { task, memory_bytes, seconds: time.as_secs().max(1) }).await?;
        let started = self.command()?.arg(folder.path()).spawn();
        let mut child = started.map_err(|source| Error::Isolation { operation: "start", source })?;
        match timeout(time, child.wait()).await {
            Err(_) => {
                child.kill().await.map_err(|source| Error::Isolation { operation: "end", source })?;
                Ok(self.refused("ONNX Runtime has not run it within"))
            }
            Ok(Ok(status)) if status.success() => folder.read_json(folder::OUTCOME).await,
            Ok(Ok(status)) => Ok(self.refused(&cause(status))),
            Ok(Err(source)) => Err(Error::Isolation { operation: "wait for", source }),
        }
    }

    fn command(&self) -> Result<Command, Error> {
        let mut command = match self.config.command.as_slice() {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            [] => {
                let program = std::env::current_exe();
                let program =
                    program.map_err(|source| Error::Isolation { operation: "find the program of", source })?;
                let mut command = Command::new(program);
                command.arg("check-model");
                command
            }
        };
        // It needs no settings and no secrets of this process.
        let kept = ["PATH", "LD_LIBRARY_PATH"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(kept).env(library::VARIABLE, library::path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    fn refused(&self, cause: &str) -> Outcome {
        let OnnxConfig { memory_bytes, time, .. } = self.config;
        let time = humantime_serde::re::humantime::format_duration(time);
        let problem = format!(
            "model of the bundle is invalid: {cause} {memory_bytes} bytes of memory and {time}, the limits registry.onnx: export \
             a smaller model, or raise the limits"
        );
        Outcome::Refused { field: None, problem }
    }
}

/// What ended a process that has no outcome.
fn cause(status: ExitStatus) -> String {
    let signal = status.signal().and_then(|number| Signal::try_from(number).ok());
    match signal {
        Some(Signal::SIGXCPU | Signal::SIGKILL) => "ONNX Runtime has not run it within".to_owned(),
        Some(signal) => format!("ONNX Runtime crashed on it ({signal}) within"),
        None => format!("ONNX Runtime failed on it ({status}) within"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How a check ends whose process is this shell command.
    async fn outcome(script: &str, time: Duration) -> Outcome {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let config = OnnxConfig { memory_bytes: 1 << 30, time, dataset_bytes: 1, command };
        let isolation = Isolation::new(config, std::env::temp_dir());
        let folder = isolation.folder().expect("a folder");
        isolation.run(&folder, Task::Validate).await.expect("it ran")
    }

    #[tokio::test]
    async fn a_process_that_ends_without_an_outcome_is_a_refusal_with_the_cause() {
        const LONG: Duration = Duration::from_secs(60);
        for (script, time, cause) in [
            ("kill -SEGV $$", LONG, "ONNX Runtime crashed on it (SIGSEGV) within 1073741824 bytes of memory and 1m"),
            ("kill -ABRT $$", LONG, "ONNX Runtime crashed on it (SIGABRT)"),
            ("kill -XCPU $$", LONG, "ONNX Runtime has not run it within"),
            ("exit 3", LONG, "ONNX Runtime failed on it (exit status: 3)"),
            (
                "sleep 600",
                Duration::from_millis(100),
                "ONNX Runtime has not run it within 1073741824 bytes of memory and 100ms",
            ),
        ] {
            let Outcome::Refused { field: None, problem } = outcome(script, time).await else { panic!("{script}") };
            assert!(problem.contains(cause) && problem.contains("registry.onnx"), "{script}: {problem}");
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_well_has_written_its_outcome() {
        let write = r#"printf '{"NoLibrary":"install it"}' > "$0/outcome.json""#;
        assert_eq!(outcome(write, Duration::from_secs(60)).await, Outcome::NoLibrary("install it".to_owned()));
    }
}
