//! Outcomes.

use rekindle_domain::{
    outcome::{Label, Outcome, PredictedRow},
    validation::Violations,
};
use rekindle_proto::monitor::{self as wire, outcome::Label as WireLabel};

use super::time;

/// An outcome as a message.
pub fn to_wire(outcome: &Outcome) -> wire::Outcome {
    let unset = wire::Outcome { label: Some(label_to_wire(&outcome.label)), ..wire::Outcome::default() };
    match &outcome.row {
        PredictedRow::Prediction { id, row } => wire::Outcome { prediction_id: id.to_string(), row: *row, ..unset },
        PredictedRow::Request { id, row } => wire::Outcome { request_id: id.clone(), row: *row, ..unset },
        PredictedRow::Entity { key, event_time } => {
            wire::Outcome { entity_key: key.clone(), event_time: Some(time::to_wire(*event_time)), ..unset }
        }
    }
}

/// The outcome that a message holds.
pub fn from_wire(given: wire::Outcome) -> Result<Outcome, Violations> {
    let label = match given.label {
        Some(label) => label_from_wire(label)?,
        None => return Err(Violations::of("label", "is missing: specify class or number")),
    };
    let event_time = given.event_time.map(|given| {
        time::from_wire(given).ok_or_else(|| Violations::of("event_time", "is outside of the years 1 to 9999"))
    });
    let event_time = event_time.transpose()?;
    let row = PredictedRow::of_fields(&given.prediction_id, given.request_id, given.entity_key, given.row, event_time)?;
    Ok(Outcome { row, label })
}

fn label_to_wire(label: &Label) -> WireLabel {
    match label {
        Label::Class(class) => WireLabel::Class(class.clone()),
        Label::Number(number) => WireLabel::Number(*number),
    }
}

fn label_from_wire(given: WireLabel) -> Result<Label, Violations> {
    let label = match given {
        WireLabel::Class(class) => Label::Class(class),
        WireLabel::Number(number) => Label::Number(number),
    };
    label.validate().map(|()| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_survive_and_each_bad_field_is_named() {
        let id = "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id");
        let event_time = chrono::DateTime::from_timestamp_millis(1_700_000_000_123).expect("in range");
        for row in [
            PredictedRow::Prediction { id, row: 2 },
            PredictedRow::Request { id: "mine".into(), row: 2 },
            PredictedRow::Entity { key: "N14228".into(), event_time },
        ] {
            for label in [Label::Class("late".into()), Label::Number(1.5)] {
                let outcome = Outcome { row: row.clone(), label };
                assert_eq!(from_wire(to_wire(&outcome)), Ok(outcome));
            }
        }
        let good = to_wire(&Outcome { row: PredictedRow::Prediction { id, row: 0 }, label: Label::Number(0.0) });
        for (field, bad) in [
            ("label", wire::Outcome { label: None, ..good.clone() }),
            ("class", wire::Outcome { label: Some(WireLabel::Class(String::new())), ..good.clone() }),
            ("number", wire::Outcome { label: Some(WireLabel::Number(f64::NAN)), ..good.clone() }),
            ("prediction_id", wire::Outcome { prediction_id: "1".into(), ..good }),
        ] {
            let violations = from_wire(bad).expect_err(field);
            assert!(violations.iter().any(|violation| violation.field == field), "{violations}");
        }
    }
}
