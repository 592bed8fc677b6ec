//! The caller of a training while it runs.

use std::{cell::RefCell, ops::ControlFlow, time::Duration};

use crate::{Checkpoint, Epoch, Trial};

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The network in training.
    pub network: NetworkInTraining,
    /// Its completed epochs.
    pub epochs: u32,
    /// Its epochs at most.
    pub of: u32,
}

/// The network in training, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkInTraining {
    /// The one whose metrics the bundle reports.
    Validated,
    /// That of a trial of a search.
    Trial {
        /// The trial, from 1.
        number: u32,
        /// Trials at most.
        of: u32,
    },
    /// The one to serve, which is trained on all rows.
    Served,
}

/// The caller of a training while it runs: it is asked before every step of the optimizer whether to stop, and receives what happens. Every method
/// has a default that does nothing.
pub trait Supervisor {
    /// Whether the training should stop.
    fn should_stop(&self) -> bool {
        false
    }

    /// How long the training has taken in this process.
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    /// An epoch of the network whose metrics the bundle reports. Those of a search are part of its trials.
    fn epoch(&self, _epoch: &Epoch) {}

    /// How far the training is, after each epoch of any network.
    fn progress(&self, _progress: Progress) {}

    /// A trial of a search has ended.
    fn trial(&self, _trial: &Trial) {}

    /// Whether a checkpoint is due. It is asked between two epochs.
    fn wants_checkpoint(&self) -> bool {
        false
    }

    /// Takes a checkpoint.
    fn save(&self, _checkpoint: Checkpoint) {}
}

/// Calls a function with each epoch, and stops once it breaks.
pub(crate) struct Observed<F>(RefCell<(F, ControlFlow<()>)>);

impl<F: FnMut(&Epoch) -> ControlFlow<()>> Observed<F> {
    pub(crate) fn by(observe: F) -> Self {
        Self(RefCell::new((observe, ControlFlow::Continue(()))))
    }
}

impl<F: FnMut(&Epoch) -> ControlFlow<()>> Supervisor for Observed<F> {
    fn should_stop(&self) -> bool {
        self.0.borrow().1.is_break()
    }

    fn epoch(&self, epoch: &Epoch) {
        let (observe, flow) = &mut *self.0.borrow_mut();
        *flow = observe(epoch);
    }
}
