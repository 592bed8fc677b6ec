//! The prediction log: Arrow IPC messages of the replicas.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::TimestampMicrosecondType};
use rekindle_bus::{Message, streams, subject};
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::{Digest, ModelName};
use rekindle_service::chain;
use uuid::Uuid;

use super::Captured;
use crate::{
    Error,
    chunk::{Draft, Kind, columns},
    store::logs::{Log, LogDelta},
    window::Timing,
};

/// Greatest message number that is plausible within one incarnation; sums of such numbers stay far below the bounds of a column.
const MAX_SEQUENCE: u64 = 1 << 48;

/// One message of a replica.
#[derive(Clone)]
pub(crate) struct PredictionMessage {
    message_id: String,
    header: Header,
    batch: RecordBatch,
}

impl PredictionMessage {
    /// The latest event time that may advance the watermark.
    fn latest_event(&self, horizon_ms: i64) -> Option<i64> {
        let times = columns::event_times(&self.batch).ok()?;
        let answered = self.batch.column_by_name(columns::ANSWERED_AT)?;
        let answered = arrow::array::AsArray::as_primitive_opt::<TimestampMicrosecondType>(answered)?;
        let pairs = times.values().iter().zip(answered.values());
        pairs.filter(|&(&event, &at)| event <= (at / 1_000).saturating_add(horizon_ms)).map(|(&event, _)| event).max()
    }
}

impl Captured for PredictionMessage {
    const CONSUMER: &'static str = "monitor-predictions";
    const STREAM: &'static str = streams::PREDICTIONS;

    fn decode(message: &Message) -> Result<Self, String> {
        let (header, batch) = prediction_log::decode(&message.payload).map_err(|error| chain(&error))?;
        let model = subject::parse_predictions(&message.subject).map_err(|error| chain(&error))?;
        if model != header.model {
            return Err(format!("the subject names model {model}, the message {}", header.model));
        }
        if header.sequence > MAX_SEQUENCE {
            return Err(format!("its sequence number is {}: expected at most {MAX_SEQUENCE}", header.sequence));
        }
        let batch = columns::with_replica(&batch, header.replica.as_str(), &header.incarnation.to_string())
            .map_err(|error| chain(&error))?;
        Ok(Self { message_id: header.message_id(), header, batch })
    }

    fn numbered(&self) -> Option<(Uuid, u64)> {
        Some((self.header.incarnation, self.header.sequence))
    }

    fn message_id(&self) -> &str {
        &self.message_id
    }

    fn model(&self) -> &ModelName {
        &self.header.model
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn delta(&self, before: &Log, timing: &Timing, horizon_ms: i64) -> LogDelta {
        let late = columns::event_times(&self.batch).map_or(0, |times| {
            times.values().iter().filter(|&&time| timing.is_late(time, before.latest_event)).count()
        });
        LogDelta {
            predictions: self.batch.num_rows() as u64,
            lost: self.header.lost_before,
            late: late as u64,
            latest_event: self.latest_event(horizon_ms),
            ..LogDelta::default()
        }
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        // The columns are part of the key for the case that replicas disagree on a bundle's signature: their rows do not concatenate.
        let mut groups: BTreeMap<(&ModelName, u32, Digest, String), Vec<&RecordBatch>> = BTreeMap::new();
        for message in messages.iter().filter(|message| message.batch.num_rows() > 0) {
            let header = &message.header;
            let columns = format!("{:?}", message.batch.schema().fields());
            let group = groups.entry((&header.model, header.model_version, header.bundle_digest, columns));
            group.or_default().push(&message.batch);
        }
        groups
            .into_iter()
            .map(|((model, model_version, bundle, _), batches)| {
                let batch = concat_batches(&batches[0].schema(), batches)?;
                Ok(Draft { kind: Kind::Prediction, model: model.clone(), model_version, bundle: Some(bundle), batch })
            })
            .collect()
    }
}
