//! The prediction log: rows, counters and exports.

use rekindle_domain::{
    ModelName, VersionRef,
    outcome::Outcome,
    prediction_log::{
        CaptureStatus, DeletedRows, ExportRequest, LabelledExport, LoggedPrediction, OutcomeCounts, RowsAhead, Value,
    },
    validation::{Checks, Violations},
};
use rekindle_proto::{
    json,
    monitor::{self as wire, value::Value as WireValue},
};

use super::{
    field::{nested_optional, optional_time, parse, parse_optional, required_time},
    outcome, time,
};

/// A logged row as a message.
pub fn to_wire(logged: &LoggedPrediction) -> wire::LoggedPrediction {
    let known = logged.label.clone().map(|label| Outcome::new(logged.prediction, logged.row, label));
    wire::LoggedPrediction {
        prediction_id: logged.prediction.to_string(),
        row: logged.row,
        model: logged.model.to_string(),
        model_version: logged.version.version,
        bundle_digest: logged.version.bundle.to_string(),
        replica: logged.replica.clone(),
        event_time: logged.event_time.map(time::to_wire),
        answered_at: logged.answered_at.map(time::to_wire),
        inputs: logged.inputs.iter().map(|(name, value)| (name.clone(), value_to_wire(value))).collect(),
        outputs: logged.outputs.clone().into_iter().collect(),
        outcome: known.as_ref().map(outcome::to_wire),
        is_test: logged.is_test,
        request_id: logged.request_id.clone().unwrap_or_default(),
        entity_key: logged.entity_key.clone().unwrap_or_default(),
        guardrails: logged.guardrails.clone().unwrap_or_default(),
    }
}

/// The logged row in proto3 JSON.
pub fn to_json(logged: &LoggedPrediction) -> serde_json::Value {
    json::to_value(&to_wire(logged))
}

/// The logged row that a message holds.
pub fn from_wire(given: wire::LoggedPrediction) -> Result<LoggedPrediction, Violations> {
    let bundle = parse("bundle_digest", &given.bundle_digest)?;
    let inputs = given.inputs.into_iter().filter_map(|(name, value)| Some((name, value_from_wire(value.value?))));
    Ok(LoggedPrediction {
        prediction: parse("prediction_id", &given.prediction_id)?,
        row: given.row,
        model: parse("model", &given.model)?,
        version: VersionRef { version: given.model_version, bundle },
        replica: given.replica,
        event_time: optional_time("event_time", given.event_time)?,
        answered_at: optional_time("answered_at", given.answered_at)?,
        inputs: inputs.collect(),
        outputs: given.outputs.into_iter().collect(),
        label: nested_optional("outcome", given.outcome, outcome::from_wire)?.map(|outcome| outcome.label),
        is_test: given.is_test,
        request_id: Some(given.request_id).filter(|id| !id.is_empty()),
        entity_key: Some(given.entity_key).filter(|key| !key.is_empty()),
        guardrails: Some(given.guardrails).filter(|found| !found.is_empty()),
    })
}

fn value_to_wire(value: &Value) -> wire::Value {
    let value = match value {
        Value::Number(number) => WireValue::Number(*number),
        Value::Integer(integer) => WireValue::Integer(*integer),
        Value::Text(text) => WireValue::Text(text.clone()),
        Value::Boolean(boolean) => WireValue::Boolean(*boolean),
    };
    wire::Value { value: Some(value) }
}

fn value_from_wire(value: WireValue) -> Value {
    match value {
        WireValue::Number(number) => Value::Number(number),
        WireValue::Integer(integer) => Value::Integer(integer),
        WireValue::Text(text) => Value::Text(text),
        WireValue::Boolean(boolean) => Value::Boolean(boolean),
    }
}

/// Counters as a message.
pub fn status_to_wire(status: &CaptureStatus) -> wire::CaptureStatus {
    wire::CaptureStatus {
        model: status.model.to_string(),
        predictions: status.predictions,
        lost: status.lost,
        outcomes: status.outcomes,
        watermark: status.watermark.map(time::to_wire),
        chunks: status.chunks,
        open_windows: status.open_windows,
        lost_messages: status.lost_messages,
        unsampled: status.unsampled,
        late: status.late,
        ahead: status.ahead.map(|ahead| wire::RowsAhead {
            rows: ahead.rows,
            requests: ahead.requests,
            from: Some(time::to_wire(ahead.from)),
        }),
        tests: status.tests,
        outcome_counts: Some(counts_to_wire(&status.outcome_counts)),
        deleted: status.deleted.map(|deleted| wire::DeletedRows {
            rows: deleted.rows,
            outcomes: deleted.outcomes,
            until: deleted.until.map(time::to_wire),
        }),
    }
}

/// The counters in proto3 JSON.
pub fn status_to_json(status: &CaptureStatus) -> serde_json::Value {
    json::to_value(&status_to_wire(status))
}

fn counts_to_wire(counts: &OutcomeCounts) -> wire::OutcomeCounts {
    wire::OutcomeCounts {
        matched: counts.matched,
        pending: counts.pending,
        unmatched: counts.unmatched,
        row_out_of_range: counts.row_out_of_range,
        wrong_model: counts.wrong_model,
        invalid_label: counts.invalid_label,
        ambiguous: counts.ambiguous,
        malformed: counts.malformed,
        examples: counts.examples.clone().into_iter().collect(),
    }
}

fn counts_from_wire(given: wire::OutcomeCounts) -> OutcomeCounts {
    OutcomeCounts {
        matched: given.matched,
        pending: given.pending,
        unmatched: given.unmatched,
        row_out_of_range: given.row_out_of_range,
        wrong_model: given.wrong_model,
        invalid_label: given.invalid_label,
        ambiguous: given.ambiguous,
        malformed: given.malformed,
        examples: given.examples.into_iter().collect(),
    }
}

/// The counters that a message holds.
pub fn status_from_wire(given: wire::CaptureStatus) -> Result<CaptureStatus, Violations> {
    Ok(CaptureStatus {
        model: parse("model", &given.model)?,
        predictions: given.predictions,
        lost: given.lost,
        lost_messages: given.lost_messages,
        unsampled: given.unsampled,
        outcomes: given.outcomes,
        tests: given.tests,
        outcome_counts: given.outcome_counts.map(counts_from_wire).unwrap_or_default(),
        watermark: optional_time("watermark", given.watermark)?,
        late: given.late,
        ahead: given.ahead.map(ahead_from_wire).transpose()?,
        chunks: given.chunks,
        open_windows: given.open_windows,
        deleted: given.deleted.map(deleted_from_wire).transpose()?,
    })
}

fn deleted_from_wire(given: wire::DeletedRows) -> Result<DeletedRows, Violations> {
    let until = optional_time("deleted.until", given.until)?;
    Ok(DeletedRows { rows: given.rows, outcomes: given.outcomes, until })
}

fn ahead_from_wire(given: wire::RowsAhead) -> Result<RowsAhead, Violations> {
    let from = required_time("ahead.from", given.from)?;
    Ok(RowsAhead { rows: given.rows, requests: given.requests, from })
}

/// A range to export, as its request.
pub fn export_to_wire(export: &ExportRequest) -> wire::ExportLabelledRequest {
    wire::ExportLabelledRequest {
        model: export.model.to_string(),
        from: export.from.map(time::to_wire),
        until: export.until.map(time::to_wire),
        target: export.target.clone(),
        time_column: export.time_column.clone(),
        holdout_share: Some(export.holdout_share),
    }
}

/// The range that a request exports.
pub fn export_from_wire(given: wire::ExportLabelledRequest) -> Result<ExportRequest, Violations> {
    let mut checks = Checks::new();
    let model: Option<ModelName> = checks.parsed("model", given.model.parse());
    let from = checks.taken_here(optional_time("from", given.from)).flatten();
    let until = checks.taken_here(optional_time("until", given.until)).flatten();
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        checks.violation("until", "is not after from: the range is half-open, [from, until)");
    }
    for (field, name) in [("target", &given.target), ("time_column", &given.time_column)] {
        checks.require(!name.trim().is_empty(), field, "empty", "the name of the column, as in the training data");
    }
    let holdout_share = given.holdout_share.unwrap_or(0.0);
    let holds = (0.0..1.0).contains(&holdout_share);
    checks.require(holds, "holdout_share", holdout_share, "at least 0 and below 1");
    checks.finish()?;
    let model = model.ok_or_else(|| Violations::of("model", "is missing"))?;
    let (target, time_column) = (given.target, given.time_column);
    Ok(ExportRequest { model, from, until, target, time_column, holdout_share })
}

/// An export as a message.
pub fn exported_to_wire(export: &LabelledExport) -> wire::ExportLabelledResponse {
    wire::ExportLabelledResponse {
        blob_digest: export.blob.map(|digest| digest.to_string()).unwrap_or_default(),
        rows: export.rows,
        time_min: export.time_range.map(|(first, _)| time::to_wire(first)),
        time_max: export.time_range.map(|(_, last)| time::to_wire(last)),
        manifest_digest: export.manifest.map(|digest| digest.to_string()).unwrap_or_default(),
        holdout_from: export.holdout_from.map(time::to_wire),
        rows_left_out: export.rows_left_out,
    }
}

/// The export that a message holds.
pub fn exported_from_wire(given: wire::ExportLabelledResponse) -> Result<LabelledExport, Violations> {
    let first = optional_time("time_min", given.time_min)?;
    let last = optional_time("time_max", given.time_max)?;
    Ok(LabelledExport {
        blob: parse_optional("blob_digest", &given.blob_digest)?,
        rows: given.rows,
        time_range: first.zip(last),
        manifest: parse_optional("manifest_digest", &given.manifest_digest)?,
        holdout_from: optional_time("holdout_from", given.holdout_from)?,
        rows_left_out: given.rows_left_out,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use rekindle_domain::{Digest, outcome::Label};

    use super::*;

    #[test]
    fn logged_rows_survive_with_every_kind_of_value() {
        let values =
            [Value::Number(1.5), Value::Integer(-3), Value::Text("UA".into()), Value::Boolean(true)].into_iter();
        let logged = LoggedPrediction {
            prediction: "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id"),
            row: 1,
            model: "m".parse().expect("a name"),
            version: VersionRef { version: 2, bundle: Digest::of(b"bundle") },
            replica: "replica-1".into(),
            event_time: Some(DateTime::UNIX_EPOCH),
            answered_at: Some(DateTime::UNIX_EPOCH),
            inputs: values.enumerate().map(|(index, value)| (format!("f{index}"), value)).collect(),
            outputs: BTreeMap::from([("probabilities".into(), vec![0, 0, 128, 63])]),
            label: Some(Label::Class("late".into())),
            is_test: true,
            request_id: Some("order-1".into()),
            entity_key: Some("N14228".into()),
            guardrails: Some("inputs[distance] range clip".into()),
        };
        let json = to_json(&logged);
        assert_eq!((&json["model_version"], &json["outcome"]["class"]), (&2.into(), &"late".into()));
        assert_eq!(from_wire(to_wire(&logged)), Ok(logged));
    }

    #[test]
    fn counters_survive() {
        let examples = BTreeMap::from([("unmatched".to_owned(), "row 0 of p".to_owned())]);
        let outcome_counts = OutcomeCounts {
            matched: 1,
            pending: 2,
            unmatched: 3,
            row_out_of_range: 4,
            wrong_model: 5,
            invalid_label: 6,
            ambiguous: 14,
            malformed: 7,
            examples,
        };
        let status = CaptureStatus {
            model: "m".parse().expect("a name"),
            predictions: 8,
            tests: 9,
            lost: 10,
            lost_messages: 11,
            unsampled: 12,
            outcomes: 12,
            outcome_counts,
            watermark: Some(DateTime::UNIX_EPOCH),
            late: 13,
            ahead: Some(RowsAhead { rows: 14, requests: 15, from: DateTime::UNIX_EPOCH }),
            chunks: 16,
            open_windows: 17,
            deleted: Some(DeletedRows { rows: 18, outcomes: 19, until: Some(DateTime::UNIX_EPOCH) }),
        };
        assert_eq!(status_from_wire(status_to_wire(&status)), Ok(status));
    }

    #[test]
    fn export_ranges_survive_and_each_bad_field_is_named() {
        let export = ExportRequest {
            model: "m".parse().expect("a name"),
            from: Some(DateTime::UNIX_EPOCH),
            until: None,
            target: "late".into(),
            time_column: "timestamp".into(),
            holdout_share: 0.25,
        };
        let good = export_to_wire(&export);
        assert_eq!(export_from_wire(good.clone()), Ok(export));
        let bad = wire::ExportLabelledRequest {
            model: "No".into(),
            until: good.from,
            target: " ".into(),
            holdout_share: Some(1.0),
            ..good
        };
        let fields: Vec<_> = export_from_wire(bad).expect_err("four").into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["model", "until", "target", "holdout_share"]);
    }
}
