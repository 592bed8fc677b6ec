//! Messages of the prediction log, numbered within one incarnation of the replica.

use bytes::Bytes;
use rekindle_bus::subject;
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::ReplicaId;
use uuid::Uuid;

use super::{batch::LogBatch, buffer::Declared};
use crate::Error;

/// A message as it is published, once or repeatedly.
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) id: String,
    pub(super) payload: Bytes,
    pub(super) rows: u64,
    pub(super) declared: Declared,
}

/// An encoded batch.
pub(super) enum Encoded {
    Message(Message),
    /// The batch has more bytes than a message may have. No number was used.
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

    /// The batch under the next number.
    pub(super) fn encode(&mut self, batch: &LogBatch, declared: Declared, max_bytes: usize) -> Result<Encoded, Error> {
        let sequence = self.last + 1;
        let schema = &batch.schema;
        let header = Header {
            model: schema.model.clone(),
            model_version: schema.version.version,
            bundle_digest: schema.version.bundle,
            replica: self.replica.clone(),
            incarnation: self.incarnation,
            sequence,
            lost_before: declared.lost,
            unsampled_before: declared.unsampled,
            is_test: batch.is_test,
        };
        let payload = match prediction_log::encode(&header, &batch.batch) {
            Ok(payload) if payload.len() > max_bytes && batch.rows() > 0 => return Ok(Encoded::TooLarge),
            Ok(payload) => payload,
            Err(rekindle_dataset::Error::LogTooLarge { .. }) if batch.rows() > 0 => return Ok(Encoded::TooLarge),
            Err(source) => {
                let (model, rows) = (schema.model.clone(), batch.batch.num_rows());
                return Err(Error::LogEncoding { model, rows, source: Box::new(source) });
            }
        };
        self.last = sequence;
        Ok(Encoded::Message(Message {
            subject: subject::predictions(&schema.model),
            id: header.message_id(),
            payload,
            rows: batch.rows(),
            declared,
        }))
    }
}
