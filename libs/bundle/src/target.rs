//! Labels: the values of the target column, and reported outcomes, as losses and metrics need them.

use std::{borrow::Cow, ops::Range};

use crate::{
    Error,
    column::{Cells, class_of_number},
};

/// The labels of rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// The index of each row's class; `None` if it is unknown to the model.
    Classes(Vec<Option<usize>>),
    /// Each row's number.
    Numbers(Vec<f64>),
}

/// The reported label of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label<'a> {
    /// A class. For regression, the number that the text spells.
    Class(&'a str),
    /// A number. For classification, the class of that name.
    Number(f64),
}

impl<'a> Label<'a> {
    /// The class that the label names, known to a model or not: a text, or a whole number. A fraction names none.
    pub fn class(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Class(name) => Some(Cow::Borrowed(name)),
            Self::Number(number) => (number.fract() == 0.0).then(|| Cow::Owned(class_of_number(number))),
        }
    }
}

impl Targets {
    /// The values of the target column `name`: indices into `classes`, or numbers if there are no classes.
    ///
    /// # Errors
    /// [`Error::Target`] if a label is missing.
    pub fn from_column(name: &str, cells: &Cells<'_>, classes: Option<&[String]>) -> Result<Self, Error> {
        let missing = |row: usize| Error::target(name, format!("row {row} has no label: remove unlabelled rows"));
        match classes {
            Some(classes) => (0..cells.rows())
                .map(|row| {
                    let label = cells.class(row).ok_or_else(|| missing(row))?;
                    Ok(classes.iter().position(|class| *class == label))
                })
                .collect::<Result<_, _>>()
                .map(Self::Classes),
            None => (0..cells.rows())
                .map(|row| cells.number(row).ok_or_else(|| missing(row)))
                .collect::<Result<_, _>>()
                .map(Self::Numbers),
        }
    }

    /// Reported labels: indices into `classes`, or numbers if there are no classes. A class that is unknown to the model
    /// is `None`.
    ///
    /// # Errors
    /// [`Error::Label`] if a number is expected and the label is not a finite one.
    pub fn from_labels<'a>(
        labels: impl IntoIterator<Item = Label<'a>>,
        classes: Option<&[String]>,
    ) -> Result<Self, Error> {
        let labels = labels.into_iter();
        match classes {
            Some(classes) => {
                let exactly = |name: &str| classes.iter().position(|class| class == name);
                let alike = |wanted: &str| {
                    let mut found = (0..).zip(classes).filter(|(_, class)| canonical(class).as_deref() == Some(wanted));
                    let first = found.next().map(|(index, _)| index);
                    first.filter(|_| found.next().is_none())
                };
                let index = |label: Label<'_>| match label {
                    Label::Class(name) => exactly(name).or_else(|| alike(&canonical(name)?)),
                    Label::Number(number) => {
                        let name = class_of_number(number);
                        exactly(&name).or_else(|| alike(&name))
                    }
                };
                Ok(Self::Classes(labels.map(index).collect()))
            }
            None => labels.map(number).collect::<Result<_, _>>().map(Self::Numbers),
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets at these positions.
    #[must_use]
    pub fn take(&self, positions: &[usize]) -> Self {
        match self {
            Self::Numbers(numbers) => Self::Numbers(positions.iter().map(|&at| numbers[at]).collect()),
            Self::Classes(classes) => Self::Classes(positions.iter().map(|&at| classes[at]).collect()),
        }
    }

    /// The labels of a range of rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(classes[rows].to_vec()),
            Self::Numbers(numbers) => Self::Numbers(numbers[rows].to_vec()),
        }
    }
}

/// The class of a number or a boolean in another spelling: `1.0` and `+1` are the class `1`, `True` is `true`. A number with leading
/// zeros is a code, which has one spelling.
fn canonical(text: &str) -> Option<String> {
    let digits = text.trim_start_matches(['+', '-']);
    let is_code = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && !is_code);
    let boolean = || Some(text.to_ascii_lowercase()).filter(|lower| ["true", "false"].contains(&lower.as_str()));
    number.map(class_of_number).or_else(boolean)
}

fn number(label: Label<'_>) -> Result<f64, Error> {
    let (number, given) = match label {
        Label::Number(number) => (Some(number), number.to_string()),
        Label::Class(text) => (text.parse().ok(), text.to_owned()),
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| Error::Label { given, expected: "a finite number".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_labels_match_classes() {
        let classes = ["0".to_owned(), "1".to_owned()];
        let labels = [Label::Class("1"), Label::Number(0.0), Label::Class("later")];
        let targets = Targets::from_labels(labels, Some(&classes)).expect("classes");
        assert_eq!(targets, Targets::Classes(vec![Some(1), Some(0), None]));
    }

    #[test]
    fn another_spelling_of_a_number_or_a_boolean_is_the_same_class() {
        let index = |label: &str, classes: [&str; 2]| {
            let classes = classes.map(str::to_owned);
            let Ok(Targets::Classes(found)) = Targets::from_labels([Label::Class(label)], Some(&classes)) else {
                panic!("classes")
            };
            found[0]
        };
        for label in ["1", "1.0", "+1", "1e0"] {
            assert_eq!(index(label, ["0", "1"]), Some(1), "{label}");
        }
        assert_eq!(index("0.0", ["0", "1"]), Some(0));
        assert_eq!(index("True", ["false", "true"]), Some(1));
        // The class may be in the other spelling, if only one is.
        assert_eq!((index("1", ["1.0", "2.0"]), index("+1", ["1.0", "1e0"])), (Some(0), None));
        assert_eq!(index("TRUE", ["True", "no"]), Some(0));
        // Codes are text: "1" is not "01", and "01" is not "1".
        assert_eq!(
            (index("1", ["01", "02"]), index("01", ["01", "02"]), index("01", ["0", "1"])),
            (None, Some(0), None)
        );
    }

    #[test]
    fn whole_numbers_and_texts_name_a_class() {
        let labels = [Label::Class("x"), Label::Number(2.0), Label::Number(0.5), Label::Number(f64::NAN)];
        assert_eq!(labels.map(Label::class), [Some("x".into()), Some("2".into()), None, None]);
    }

    #[test]
    fn regression_accepts_numbers_and_texts_that_spell_one() {
        let targets = Targets::from_labels([Label::Number(2.0), Label::Class("1.5")], None).expect("numbers");
        assert_eq!(targets, Targets::Numbers(vec![2.0, 1.5]));
        for label in [Label::Class("late"), Label::Class("inf"), Label::Number(f64::NAN)] {
            let error = Targets::from_labels([label], None).expect_err("not a number").to_string();
            assert!(error.contains("expected a finite number"), "{error}");
        }
    }
}
