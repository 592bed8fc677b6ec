//! Checkpoints: the state of a training between two epochs, from which another process continues to the same bits.
//!
//! A checkpoint holds the network in training and what earlier trials of a search have led to. Rows and recipe are not part of it: they are read
//! again, and everything that follows from them is computed again.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Epoch, Error, NetworkInTraining, Origin, Progress, Supervisor, session::SessionState};

/// Bytes of a checkpoint besides its weights, more or less.
const OVERHEAD: usize = 64 << 10;

/// The state of a training between two epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint(State);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// The program that took it.
    build: String,
    run_id: String,
    before: Before,
    stage: Stage,
}

/// What led to the network in training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// How long the training took in other processes.
    pub(crate) elapsed: Duration,
    /// Whether each completed trial was better than those before it.
    pub(crate) trials: Vec<bool>,
    /// The network of the best trial.
    pub(crate) best: Option<BestNetwork>,
}

/// The network in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// That of a trial.
    Validating(Validating),
    /// The one to serve, with the recipe of the best trial.
    Completing(SessionState),
}

/// A network in training with early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validating {
    pub(crate) session: SessionState,
    pub(crate) best: BestNetwork,
    pub(crate) epochs: Vec<Epoch>,
}

/// The network of the epoch with the lowest validation loss, before its calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BestNetwork {
    /// As safetensors.
    pub(crate) weights: Bytes,
    pub(crate) train_loss: f64,
    pub(crate) epochs: u32,
    pub(crate) best_epoch: u32,
}

impl State {
    /// About as many bytes as the stored form has.
    fn bytes(&self) -> usize {
        let session = match &self.stage {
            Stage::Validating(validating) => validating.session.bytes() + validating.best.weights.len(),
            Stage::Completing(session) => session.bytes(),
        };
        session + self.before.best.as_ref().map_or(0, |best| best.weights.len()) + OVERHEAD
    }
}

impl Checkpoint {
    /// The stored form. `build` identifies the program.
    ///
    /// # Errors
    /// It cannot be serialized.
    pub fn into_bytes(mut self, build: &str) -> Result<Bytes, Error> {
        build.clone_into(&mut self.0.build);
        let buffer = Vec::with_capacity(self.0.bytes());
        postcard::to_extend(&self.0, buffer).map(Bytes::from).map_err(|error| Error::Checkpoint(error.to_string()))
    }

    /// Reads a checkpoint of a training run.
    ///
    /// # Errors
    /// It is damaged, of another run, or of another build of the program, which may compute other bits.
    pub fn from_bytes(bytes: &[u8], run_id: &str, build: &str) -> Result<Self, Error> {
        let state: State = postcard::from_bytes(bytes).map_err(|error| Error::Checkpoint(error.to_string()))?;
        let other = [("run", &state.run_id, run_id), ("build", &state.build, build)];
        match other.iter().find(|(_, found, expected)| found != expected) {
            Some((what, found, expected)) => {
                Err(Error::Checkpoint(format!("it is of the {what} {found}, expected {expected}")))
            }
            None => Ok(Self(state)),
        }
    }

    /// Completed epochs of the network in training.
    pub fn epoch(&self) -> u32 {
        match &self.0.stage {
            Stage::Validating(validating) => validating.session.epochs(),
            Stage::Completing(session) => session.epochs(),
        }
    }

    /// The number of the trial in training, from 1; `None` if the network to serve is.
    pub fn trial(&self) -> Option<usize> {
        matches!(self.0.stage, Stage::Validating(_)).then(|| self.0.before.trials.len() + 1)
    }

    /// Where a training begins: after what is done, and with the network in training if there is one.
    pub(crate) fn start(checkpoint: Option<Self>) -> (Before, Option<Stage>) {
        checkpoint.map_or_else(Default::default, |Self(state)| (state.before, Some(state.stage)))
    }
}

/// Saves the checkpoints of a training, and says how far it is.
pub(crate) struct Keeper<'a> {
    pub(crate) supervisor: &'a dyn Supervisor,
    pub(crate) origin: &'a Origin,
    pub(crate) before: Before,
    /// Trials of a search at most.
    pub(crate) trials: Option<u32>,
}

impl Keeper<'_> {
    /// Saves a checkpoint if one is due.
    pub(crate) fn save(&self, stage: impl FnOnce() -> Result<Stage, Error>) -> Result<(), Error> {
        // Without a best one, failed trials are repeated: they are short, and their reasons are not kept.
        let is_complete = self.before.best.is_some() || self.before.trials.is_empty();
        if !is_complete || !self.supervisor.wants_checkpoint() {
            return Ok(());
        }
        let before = Before { elapsed: self.elapsed(), ..self.before.clone() };
        let (build, run_id) = (String::new(), self.origin.run_id.clone());
        self.supervisor.save(Checkpoint(State { build, run_id, before, stage: stage()? }));
        Ok(())
    }

    /// Says how far the network in training is.
    pub(crate) fn progress(&self, is_served: bool, epochs: u32, of: u32) {
        let network = match self.trials {
            _ if is_served => NetworkInTraining::Served,
            None => NetworkInTraining::Validated,
            Some(of) => {
                let number = u32::try_from(self.before.trials.len()).unwrap_or(u32::MAX).saturating_add(1);
                NetworkInTraining::Trial { number, of }
            }
        };
        self.supervisor.progress(Progress { network, epochs, of });
    }

    /// How long the training has taken in all processes.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before.elapsed + self.supervisor.elapsed()
    }
}
