//! Messages of the prediction log, numbered within one life of the replica.

use bytes::Bytes;
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::ReplicaId;
use uuid::Uuid;

use super::rows::Segment;
use crate::Error;

/// A message as it is sent, once or again.
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) id: String,
    pub(super) payload: Bytes,
    pub(super) rows: u64,
    pub(super) lost_before: u64,
}

/// A segment, encoded.
pub(super) enum Encoded {
    Message(Message),
    /// More bytes than a message may have; the number was not used.
    TooLarge,
}

/// Numbers messages from 1.
pub(super) struct Sequence {
    replica: ReplicaId,
    incarnation: Uuid,
    last: u64,
}

impl Sequence {
    pub(super) fn new(replica: ReplicaId, incarnation: Uuid) -> Self {
        Self { replica, incarnation, last: 0 }
    }

    /// The segment under the next number.
    pub(super) fn encode(&mut self, segment: &Segment, lost_before: u64, max_bytes: usize) -> Result<Encoded, Error> {
        let sequence = self.last + 1;
        let shape = &segment.shape;
        let header = Header {
            model: shape.model.clone(),
            model_version: shape.version.version,
            bundle_digest: shape.version.bundle,
            replica: self.replica.clone(),
            incarnation: self.incarnation,
            sequence,
            lost_before,
        };
        let payload = match prediction_log::encode(&header, &segment.batch) {
            Ok(payload) if payload.len() > max_bytes && segment.rows() > 0 => return Ok(Encoded::TooLarge),
            Ok(payload) => payload,
            Err(rekindle_dataset::Error::LogTooLarge { .. }) if segment.rows() > 0 => return Ok(Encoded::TooLarge),
            Err(source) => {
                let (model, rows) = (shape.model.clone(), segment.batch.num_rows());
                return Err(Error::LogEncoding { model, rows, source: Box::new(source) });
            }
        };
        self.last = sequence;
        Ok(Encoded::Message(Message {
            subject: format!("rekindle.predictions.{}", shape.model),
            id: header.message_id(),
            payload,
            rows: segment.rows(),
            lost_before,
        }))
    }
}
