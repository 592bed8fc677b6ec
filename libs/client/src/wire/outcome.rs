//! Outcomes.

use rekindle_domain::{
    outcome::{Label, Outcome},
    validation::Violations,
};
use rekindle_proto::monitor::{self as wire, outcome::Label as WireLabel};

use super::field::parse;

/// An outcome as a message.
pub fn to_wire(outcome: &Outcome) -> wire::Outcome {
    wire::Outcome {
        prediction_id: outcome.prediction.to_string(),
        row: outcome.row,
        label: Some(label_to_wire(&outcome.label)),
    }
}

/// The outcome that a message holds.
pub fn from_wire(given: wire::Outcome) -> Result<Outcome, Violations> {
    let label = match given.label {
        Some(label) => label_from_wire(label)?,
        None => return Err(Violations::of("label", "is missing: specify class or number")),
    };
    Ok(Outcome { prediction: parse("prediction_id", &given.prediction_id)?, row: given.row, label })
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
        let prediction = "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id");
        for label in [Label::Class("late".into()), Label::Number(1.5)] {
            let outcome = Outcome { prediction, row: 2, label };
            assert_eq!(from_wire(to_wire(&outcome)), Ok(outcome));
        }
        let good = to_wire(&Outcome { prediction, row: 0, label: Label::Number(0.0) });
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
