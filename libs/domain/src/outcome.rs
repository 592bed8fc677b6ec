//! Outcomes: the ground truth of a predicted row, which may arrive late, repeatedly, or before its prediction.

mod line;
mod row;

pub use self::{line::InvalidLine, row::PredictedRow};
use crate::{
    PredictionId,
    validation::{Checks, Violations},
};

/// A ground-truth label.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// The class, spelled as in the training data.
    Class(String),
    /// The target of a regression, or a class that is spelled as a number.
    Number(f64),
}

impl Label {
    /// Longest class, in bytes.
    pub const MAX_CLASS: usize = 256;

    /// Checks the bounds of the value.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        match self {
            Self::Class(class) => {
                checks.require(!class.is_empty(), "class", "empty", "the class, spelled as in the training data");
                let (length, most) = (class.len(), Self::MAX_CLASS);
                checks.require(length <= most, "class", format!("{length} bytes long"), "at most 256 bytes");
            }
            Self::Number(number) => checks.require(number.is_finite(), "number", number, "a finite number"),
        }
        checks.finish()
    }
}

/// The outcome of one predicted row.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The row.
    pub row: PredictedRow,
    /// The label.
    pub label: Label,
}

impl Outcome {
    /// The outcome of a row of a prediction.
    pub fn new(id: PredictionId, row: u32, label: Label) -> Self {
        Self { row: PredictedRow::Prediction { id, row }, label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        assert_eq!(Label::Class("late".into()).validate(), Ok(()));
        assert_eq!(Label::Number(0.0).validate(), Ok(()));
        for bad in [Label::Class(String::new()), Label::Class("x".repeat(257)), Label::Number(f64::NAN)] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
