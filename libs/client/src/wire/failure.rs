//! Failed prediction requests.

use rekindle_domain::{
    failure::{FailedRequests, FailureReport},
    validation::Violations,
};
use rekindle_proto::{
    json::{self, InvalidJson},
    monitor as wire,
};

use super::{
    field::{each, parse, required_time},
    time,
};

/// A report as a message in proto3 JSON, as the log of failed requests holds it.
pub fn report_to_json(report: &FailureReport) -> Vec<u8> {
    let message = wire::FailureReport {
        model: report.model.to_string(),
        replica: report.replica.to_string(),
        incarnation: report.incarnation.to_string(),
        sequence: report.sequence,
        lost_before: report.lost_before,
        failures: report.failures.iter().map(to_wire).collect(),
    };
    json::to_value(&message).to_string().into_bytes()
}

/// Why a message of the log of failed requests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReport {
    /// It is not JSON of the expected shape.
    #[error(transparent)]
    Json(#[from] InvalidJson),
    /// A field is not valid.
    #[error(transparent)]
    Fields(#[from] Violations),
}

/// The report that a message of the log holds.
pub fn report_from_json(json: &[u8]) -> Result<FailureReport, InvalidReport> {
    let given: wire::FailureReport = json::from_slice(json)?;
    Ok(FailureReport {
        model: parse("model", &given.model)?,
        replica: parse("replica", &given.replica)?,
        incarnation: parse("incarnation", &given.incarnation)?,
        sequence: given.sequence,
        lost_before: given.lost_before,
        failures: each("failures", given.failures, from_wire)?,
    })
}

/// Failed requests as a message.
pub fn to_wire(failed: &FailedRequests) -> wire::FailedRequests {
    wire::FailedRequests {
        replica: failed.replica.to_string(),
        model_version: failed.version.unwrap_or_default(),
        reason: failed.reason.clone(),
        message: failed.message.clone(),
        requests: failed.requests,
        first_at: Some(time::to_wire(failed.first_at)),
        last_at: Some(time::to_wire(failed.last_at)),
        request_id: failed.request_id.clone(),
        prediction_id: failed.prediction.to_string(),
    }
}

/// Failed requests in proto3 JSON.
pub fn to_json(failed: &FailedRequests) -> serde_json::Value {
    json::to_value(&to_wire(failed))
}

/// The failed requests that a message holds.
pub fn from_wire(given: wire::FailedRequests) -> Result<FailedRequests, Violations> {
    Ok(FailedRequests {
        replica: parse("replica", &given.replica)?,
        version: Some(given.model_version).filter(|&version| version > 0),
        reason: given.reason,
        message: given.message,
        requests: given.requests,
        first_at: required_time("first_at", given.first_at)?,
        last_at: required_time("last_at", given.last_at)?,
        request_id: given.request_id,
        prediction: parse("prediction_id", &given.prediction_id)?,
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::PredictionId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_report_survives() {
        let failed = FailedRequests {
            replica: "replica-1".parse().expect("a name"),
            version: None,
            reason: "QUEUE_FULL".into(),
            message: "100 rows are queued".into(),
            requests: 3,
            first_at: DateTime::UNIX_EPOCH,
            last_at: DateTime::UNIX_EPOCH,
            request_id: "order-1".into(),
            prediction: PredictionId::new(Uuid::from_u128(7)),
        };
        let report = FailureReport {
            model: "team-a.flights".parse().expect("a name"),
            replica: failed.replica.clone(),
            incarnation: Uuid::from_u128(9),
            sequence: 1,
            lost_before: 5,
            failures: vec![failed.clone(), FailedRequests { version: Some(4), ..failed }],
        };
        let json = report_to_json(&report);
        assert_eq!(report_from_json(&json).expect("a report"), report);
        let damaged = String::from_utf8(json).expect("text").replace("1970", "19x0");
        assert!(report_from_json(damaged.as_bytes()).is_err());
        assert!(report_from_json(b"{}").is_err());
    }
}
