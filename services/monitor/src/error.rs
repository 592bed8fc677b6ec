//! What can go wrong in the monitor, and what a caller is told of it.

use rekindle_domain::{ModelName, PredictionId};
use tonic::{Code, Status};

/// Why an operation of the monitor failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("database")]
    Database(#[from] sea_orm::DbErr),
    /// Connecting to or migrating the database.
    #[error("opening the database")]
    Open(#[from] rekindle_store::Error),
    /// The object store.
    #[error("object store")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The bus.
    #[error("bus")]
    Bus(#[from] rekindle_bus::Error),
    /// A bundle or its reference.
    #[error("bundle")]
    Model(#[from] rekindle_model::Error),
    /// A field of a request that does not fit what is stored.
    #[error("{field}: {problem}")]
    Field {
        /// The field's name on the wire.
        field: &'static str,
        /// What is wrong, and the way out.
        problem: String,
    },
    /// A table to export.
    #[error("writing labelled rows")]
    Dataset(#[from] rekindle_dataset::Error),
    /// A statistic that has no value.
    #[error("statistic")]
    Statistics(#[from] rekindle_statistics::Error),
    /// Writing or reading a segment's Parquet.
    #[error("segment")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arranging a segment's columns.
    #[error("columns of a segment")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A segment without a column that every segment has.
    #[error("segment has no column {column} of type {expected}")]
    Column {
        /// The column.
        column: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Other messages of the batch were acted upon before: the batch is to be made again without them.
    #[error("{} messages were captured before", .0.len())]
    Repeated(std::collections::HashSet<String>),
    /// Another instance moved the same state; what was done is rolled back and will be done again from what is there.
    #[error("another instance moved {what} of {model}")]
    LostRace {
        /// The state.
        what: &'static str,
        /// The model.
        model: ModelName,
    },
    /// The settings' revision is another.
    #[error("the watch of {model} is at revision {is}, not {expected}: read it with GetWatch and set it again")]
    StaleRevision {
        /// The model.
        model: ModelName,
        /// As the caller believed.
        expected: u64,
        /// As it is.
        is: u64,
    },
    /// No such row was captured yet.
    #[error(
        "row {row} of prediction {id} is not in the log: a prediction appears within about two seconds of its answer, once its replica \
         has sent its batch and the batch was written; try again, or check the id and the row"
    )]
    NoPrediction {
        /// The prediction.
        id: PredictionId,
        /// The row asked for.
        row: u32,
    },
    /// Writing the list of exported segments.
    #[error("manifest of an export")]
    Manifest(#[from] serde_json::Error),
    /// Rows of one span whose columns do not fit together.
    #[error(
        "versions {first} and {second} of {model} take different inputs: export spans in which one of them answered"
    )]
    MixedInputs {
        /// The model.
        model: ModelName,
        /// One version.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A worker thread ended in a panic.
    #[error("worker")]
    Worker(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether trying again with the same rows and the same bundle cannot help.
    pub(crate) fn is_lasting(&self) -> bool {
        use rekindle_artifacts::Error::{Corrupt, NotFound};
        matches!(
            self,
            Self::Model(_)
                | Self::Statistics(_)
                | Self::Column { .. }
                | Self::Arrow(_)
                | Self::Parquet(_)
                | Self::Artifacts(Corrupt { .. } | NotFound { .. })
        )
    }
}

impl From<Error> for Status {
    /// The one mapping. What the caller can mend is told in full; the rest is logged here, once, and told in general.
    fn from(error: Error) -> Self {
        use rekindle_proto::error::refusal;
        let message = error.to_string();
        match &error {
            Error::Field { field, problem } => rekindle_proto::error::invalid_argument(*field, problem),
            Error::StaleRevision { model, is, .. } => refusal(
                Code::Aborted,
                "STALE_REVISION",
                message,
                [("model", model.to_string()), ("revision", is.to_string())],
            ),
            Error::NoPrediction { id, row } => refusal(
                Code::NotFound,
                "NO_SUCH_PREDICTION",
                message,
                [("prediction_id", id.to_string()), ("row", row.to_string())],
            ),
            Error::MixedInputs { model, .. } => {
                refusal(Code::FailedPrecondition, "MIXED_INPUTS", message, [("model", model.to_string())])
            }
            Error::Bus(_) => {
                tracing::warn!(error = chain(&error), "bus refused a call's message");
                refusal(Code::Unavailable, "BUS_UNAVAILABLE", "the bus did not take the message: try again", [])
            }
            _ => {
                tracing::error!(error = chain(&error), "call failed");
                refusal(Code::Internal, "INTERNAL", "the monitor failed; its log says why", [])
            }
        }
    }
}

/// The error and its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
