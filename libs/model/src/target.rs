//! The column that is learnt: which task its values make, which classes there are, and its values as numbers.

use std::collections::BTreeSet;

use rekindle_domain::Task;

use crate::{
    Error,
    column::{Cells, number_label},
    prediction::Truth,
};

/// Classes at most.
pub const MAX_CLASSES: usize = 1000;
/// Whole numbers with more distinct values than this are taken for a quantity unless the recipe says otherwise.
const MAX_GUESSED_CLASSES: usize = 20;

/// The true values of rows, as learning and scoring take them.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// The index of each row's class; `None` where it is none of the classes.
    Classes(Vec<Option<usize>>),
    /// Each row's number.
    Numbers(Vec<f64>),
}

/// What is predicted, with its classes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    pub(crate) task: Task,
    pub(crate) classes: Option<Vec<String>>,
}

impl Goal {
    /// Reads the task off the target's values, unless `task` says it, and finds the classes.
    pub(crate) fn of(name: &str, cells: &Cells<'_>, rows: usize, task: Option<Task>) -> Result<Self, Error> {
        check_complete(name, cells, rows)?;
        if matches!(cells, Cells::Instant(_)) {
            return Err(Error::training(name, "an instant cannot be a target: use a number or a class"));
        }
        if task == Some(Task::Regression) || (task.is_none() && is_quantity(cells, rows)) {
            return match cells {
                Cells::Int(_) | Cells::Float(_) => Ok(Self { task: Task::Regression, classes: None }),
                _ => Err(Error::training(name, "regression needs a column of numbers: choose another target or task")),
            };
        }
        let classes = classes(name, cells, rows)?;
        let task = match (task, classes.len()) {
            (_, 0 | 1) => return Err(one_class(name, &classes)),
            (Some(Task::Binary), n) if n != 2 => {
                let problem = format!(
                    "it has {n} classes, a binary task has 2: leave the recipe's task out, or set it to multiclass"
                );
                return Err(Error::training(name, problem));
            }
            (Some(task), _) => task,
            (None, 2) => Task::Binary,
            (None, _) => Task::Multiclass,
        };
        Ok(Self { task, classes: Some(classes) })
    }

    /// Numbers that the network gives per row.
    pub(crate) fn outputs(&self) -> usize {
        match (self.task, &self.classes) {
            (Task::Multiclass, Some(classes)) => classes.len(),
            _ => 1,
        }
    }
}

fn one_class(name: &str, classes: &[String]) -> Error {
    let only = classes.first().map_or("nothing", String::as_str);
    Error::training(name, format!("every row has the same class, {only:?}: register rows with at least two"))
}

fn check_complete(name: &str, cells: &Cells<'_>, rows: usize) -> Result<(), Error> {
    let missing = (0..rows).filter(|&row| cells.is_missing(row)).count();
    if missing > 0 {
        return Err(Error::training(
            name,
            format!("{missing} of {rows} rows have no target: register labelled rows alone"),
        ));
    }
    if let Cells::Float(array) = cells
        && let Some(row) = (0..rows).find(|&row| !array.value(row).is_finite())
    {
        return Err(Error::training(
            name,
            format!("row {row} is not a finite number: correct it, or leave the row out"),
        ));
    }
    Ok(())
}

/// Whether numbers look like a quantity rather than like the numbers of classes.
fn is_quantity(cells: &Cells<'_>, rows: usize) -> bool {
    let mut distinct = BTreeSet::new();
    let limit = match cells {
        Cells::Int(_) => MAX_GUESSED_CLASSES,
        Cells::Float(_) => 2,
        _ => return false,
    };
    for number in (0..rows).filter_map(|row| cells.number(row)) {
        distinct.insert(number.to_bits());
        if number.fract() != 0.0 || distinct.len() > limit {
            return true;
        }
    }
    false
}

/// The classes, sorted: numbers by value, texts by code point, false before true.
fn classes(name: &str, cells: &Cells<'_>, rows: usize) -> Result<Vec<String>, Error> {
    let mut classes: BTreeSet<String> = BTreeSet::new();
    for label in (0..rows).filter_map(|row| cells.label(row)) {
        if !classes.contains(label.as_ref()) {
            classes.insert(label.into_owned());
        }
        if classes.len() > MAX_CLASSES {
            let problem =
                format!("it has more than {MAX_CLASSES} classes: choose another target, or a regression task");
            return Err(Error::training(name, problem));
        }
    }
    let mut classes: Vec<String> = classes.into_iter().collect();
    if matches!(cells, Cells::Int(_) | Cells::Float(_)) {
        let value = |label: &String| label.parse::<f64>().unwrap_or(f64::NAN);
        classes.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
    Ok(classes)
}

/// The values of a target column in the terms of `classes`, or as numbers where there are none.
pub(crate) fn targets(
    name: &str,
    cells: &Cells<'_>,
    rows: usize,
    classes: Option<&[String]>,
) -> Result<Targets, Error> {
    let missing = |row: usize| Error::training(name, format!("row {row} has no target: leave unlabelled rows out"));
    match classes {
        Some(classes) => (0..rows)
            .map(|row| {
                let label = cells.label(row).ok_or_else(|| missing(row))?;
                Ok(classes.iter().position(|class| *class == label))
            })
            .collect::<Result<_, _>>()
            .map(Targets::Classes),
        None => (0..rows)
            .map(|row| cells.number(row).ok_or_else(|| missing(row)))
            .collect::<Result<_, _>>()
            .map(Targets::Numbers),
    }
}

impl Targets {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a range.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(classes[rows].to_vec()),
            Self::Numbers(numbers) => Self::Numbers(numbers[rows].to_vec()),
        }
    }

    /// Outcomes as they were reported. A label that is none of the classes is kept as such; a label where a number is
    /// predicted is an [`Error::Truth`] unless it reads as one.
    pub fn from_truths<'a>(
        truths: impl IntoIterator<Item = Truth<'a>>,
        classes: Option<&[String]>,
    ) -> Result<Self, Error> {
        let truths = truths.into_iter();
        match classes {
            Some(classes) => {
                let position = |label: &str| classes.iter().position(|class| class == label);
                Ok(Self::Classes(
                    truths
                        .map(|truth| match truth {
                            Truth::Label(label) => position(label),
                            Truth::Number(number) => position(&number_label(number)),
                        })
                        .collect(),
                ))
            }
            None => truths.map(number).collect::<Result<_, _>>().map(Self::Numbers),
        }
    }
}

fn number(truth: Truth<'_>) -> Result<f64, Error> {
    let (number, given) = match truth {
        Truth::Number(number) => (Some(number), number.to_string()),
        Truth::Label(label) => (label.parse().ok(), label.to_owned()),
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| Error::Truth { given, expected: "a finite number".to_owned() })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn goal(cells: &Cells<'_>, rows: usize) -> Result<Goal, Error> {
        Goal::of("y", cells, rows, None)
    }

    #[test]
    fn values_decide_the_task() {
        let flags = BooleanArray::from(vec![true, false]);
        let binary = goal(&Cells::Flag(&flags), 2).expect("two classes");
        assert_eq!(binary, Goal { task: Task::Binary, classes: Some(vec!["false".into(), "true".into()]) });
        let digits = Int64Array::from((0..11).collect::<Vec<_>>());
        let multiclass = goal(&Cells::Int(&digits), 11).expect("eleven classes");
        assert_eq!((multiclass.task, multiclass.outputs()), (Task::Multiclass, 11));
        assert_eq!(multiclass.classes.expect("classes")[10], "10", "sorted by value");
        let counts = Int64Array::from((0..500).collect::<Vec<_>>());
        assert_eq!(goal(&Cells::Int(&counts), 500).expect("a quantity").task, Task::Regression);
        let zero_one = Float64Array::from(vec![0.0, 1.0]);
        assert_eq!(goal(&Cells::Float(&zero_one), 2).expect("two").classes.expect("classes"), ["0", "1"]);
    }

    #[test]
    fn problems_name_the_column_and_the_fix() {
        let same = StringArray::from(vec!["a", "a"]);
        let error = goal(&Cells::Text(&same), 2).expect_err("one class").to_string();
        assert!(error.contains("column y") && error.contains("at least two"), "{error}");
        let holes = Int64Array::from(vec![Some(1), None]);
        let error = goal(&Cells::Int(&holes), 2).expect_err("a hole").to_string();
        assert!(error.contains("1 of 2 rows"), "{error}");
        let error = Goal::of("y", &Cells::Text(&same), 2, Some(Task::Regression)).expect_err("text").to_string();
        assert!(error.contains("column of numbers"), "{error}");
    }

    #[test]
    fn outcomes_are_matched_to_classes() {
        let classes = ["0".to_owned(), "1".to_owned()];
        let truths = [Truth::Label("1"), Truth::Number(0.0), Truth::Label("later")];
        let targets = Targets::from_truths(truths, Some(&classes)).expect("classes");
        assert_eq!(targets, Targets::Classes(vec![Some(1), Some(0), None]));
        assert!(Targets::from_truths([Truth::Label("late")], None).is_err());
    }
}
