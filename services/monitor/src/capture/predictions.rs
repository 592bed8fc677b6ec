//! The prediction log: Arrow IPC messages of the replicas.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::TimestampMicrosecondType};
use rekindle_bus::{Message, streams};
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::{Digest, ModelName};
use uuid::Uuid;

use super::{Captured, Draft, model_of};
use crate::{
    Error,
    error::chain,
    segment::{self, Kind},
    store::logs::{Growth, Log},
    window::Timing,
};

/// No replica sends more messages in one life; sums of such numbers stay far below what a column holds.
const MAX_SEQUENCE: u64 = 1 << 48;

/// One message of a replica.
#[derive(Clone)]
pub(crate) struct Logged {
    message_id: String,
    header: Header,
    batch: RecordBatch,
}

impl Logged {
    /// The latest event time that may move the watermark.
    fn latest_event(&self, horizon_ms: i64) -> Option<i64> {
        let times = segment::event_times(&self.batch).ok()?;
        let answered = self.batch.column_by_name(segment::ANSWERED_AT)?;
        let answered = arrow::array::AsArray::as_primitive_opt::<TimestampMicrosecondType>(answered)?;
        let pairs = times.values().iter().zip(answered.values());
        pairs.filter(|&(&event, &at)| event <= (at / 1_000).saturating_add(horizon_ms)).map(|(&event, _)| event).max()
    }
}

impl Captured for Logged {
    const CONSUMER: &'static str = "monitor-predictions";
    const STREAM: &'static str = streams::PREDICTIONS;

    fn decode(message: &Message) -> Result<Self, String> {
        let (header, batch) = prediction_log::decode(&message.payload).map_err(|error| chain(&error))?;
        let model = model_of(&message.subject)?;
        if model != header.model {
            return Err(format!("the subject says model {model}, the message {}", header.model));
        }
        if header.sequence > MAX_SEQUENCE {
            return Err(format!("its number {} cannot be right", header.sequence));
        }
        let batch = segment::with_replica(&batch, header.replica.as_str(), &header.incarnation.to_string())
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

    fn growth(&self, before: &Log, timing: &Timing, horizon_ms: i64) -> Growth {
        let late = segment::event_times(&self.batch).map_or(0, |times| {
            times.values().iter().filter(|&&time| timing.is_late(time, before.latest_event)).count()
        });
        Growth {
            predictions: self.batch.num_rows() as u64,
            lost: self.header.lost_before,
            late: late as u64,
            latest_event: self.latest_event(horizon_ms),
            ..Growth::default()
        }
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        // The columns are part of the key only for replicas that disagree on a bundle's signature, which no right one does.
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
