//! Training: from a table of labelled rows to a model bundle.
//!
//! [`train`] splits the rows by time, trains a network with early stopping on the latest rows, retrains it on all rows,
//! and seals the result as a [`rekindle_bundle::Bundle`]. This is the only crate that depends on burn. Feature pipeline,
//! network and scores come from [`rekindle_bundle`], so that training and serving compute the same predictions.
//!
//! Out of scope: reading files, storing bundles and checkpoints, network access and the clock. Training runs on threads of its own while the caller
//! waits.
//!
//! Invariants:
//! - the same table, recipe and origin give the same bundle digest on the same kind of machine, whatever else the process
//!   does, and from whichever checkpoint it was resumed;
//! - validation rows affect neither the weights, but for a temperature, nor the pipeline of the network whose metrics the bundle reports.

mod baseline;
mod calibrate;
mod checkpoint;
mod error;
mod fit;
mod goal;
mod learner;
mod memory;
mod order;
mod prepare;
mod row_weights;
mod rows;
mod seal;
mod search;
mod session;
mod supervise;
mod train;
mod weights;

pub use checkpoint::Checkpoint;
pub use error::Error;
pub use goal::MAX_INFERRED_CLASSES;
pub use memory::{RowsSize, TrainingMemory};
pub use search::{Trial, search};
pub use supervise::{NetworkInTraining, Progress, Supervisor};
pub use train::{Epoch, Origin, TrainInput, train, train_under};
