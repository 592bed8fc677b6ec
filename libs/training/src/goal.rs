//! The goal of training: the task and the classes of a target column.

use std::collections::BTreeSet;

use rekindle_bundle::{column::Cells, prediction::raw_width};
use rekindle_domain::Task;

use crate::Error;

/// Maximum number of classes.
const MAX_CLASSES: usize = 1000;
/// Integers with more distinct values are a quantity, unless the recipe sets the task.
pub const MAX_INFERRED_CLASSES: usize = 20;

/// What to predict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    pub(crate) task: Task,
    /// Sorted; `None` for regression.
    pub(crate) classes: Option<Vec<String>>,
}

impl Goal {
    /// Infers the task from the target's values unless `task` is set, and collects the classes.
    pub(crate) fn of(name: &str, cells: &Cells<'_>, task: Option<Task>) -> Result<Self, Error> {
        check_complete(name, cells)?;
        if matches!(cells, Cells::Timestamp(_)) {
            return Err(Error::column(name, "a timestamp cannot be a target: choose a numeric or categorical column"));
        }
        if task == Some(Task::Regression) || (task.is_none() && is_quantity(cells)) {
            return match cells {
                Cells::Int(_) | Cells::Float(_) => Ok(Self { task: Task::Regression, classes: None }),
                _ => Err(Error::column(name, "regression needs a column of numbers: choose another target or task")),
            };
        }
        let classes = classes(name, cells)?;
        let task = match (task, classes.len()) {
            (_, 0 | 1) => return Err(one_class(name, &classes)),
            (Some(Task::Binary), n) if n != 2 => {
                let problem =
                    format!("a binary task needs 2 classes, got {n}: omit the recipe's task, or set it to multiclass");
                return Err(Error::column(name, problem));
            }
            (Some(task), _) => task,
            (None, 2) => Task::Binary,
            (None, _) => Task::Multiclass,
        };
        Ok(Self { task, classes: Some(classes) })
    }

    /// Outputs of the network per row.
    pub(crate) fn outputs(&self) -> usize {
        raw_width(self.task, self.classes.as_ref().map_or(0, Vec::len))
    }
}

fn one_class(name: &str, classes: &[String]) -> Error {
    let only = classes.first().map_or("", String::as_str);
    Error::column(name, format!("every row has the same class, {only:?}: register rows with at least two classes"))
}

fn check_complete(name: &str, cells: &Cells<'_>) -> Result<(), Error> {
    let (missing, rows) = (cells.missing(), cells.rows());
    if missing > 0 {
        return Err(Error::column(
            name,
            format!("{missing} of {rows} rows have no label: register labelled rows only"),
        ));
    }
    if let Cells::Float(array) = cells
        && let Some(row) = (0..rows).find(|&row| !array.value(row).is_finite())
    {
        return Err(Error::column(name, format!("row {row} is not a finite number: correct or remove the row")));
    }
    Ok(())
}

/// Whether the values are a quantity rather than numbered classes.
fn is_quantity(cells: &Cells<'_>) -> bool {
    let mut distinct = BTreeSet::new();
    let limit = match cells {
        Cells::Int(_) => MAX_INFERRED_CLASSES,
        Cells::Float(_) => 2,
        _ => return false,
    };
    for number in (0..cells.rows()).filter_map(|row| cells.number(row)) {
        distinct.insert(number.to_bits());
        if number.fract() != 0.0 || distinct.len() > limit {
            return true;
        }
    }
    false
}

/// The classes, sorted: numbers by value, texts by code point, false before true.
fn classes(name: &str, cells: &Cells<'_>) -> Result<Vec<String>, Error> {
    let mut classes: BTreeSet<String> = BTreeSet::new();
    for class in (0..cells.rows()).filter_map(|row| cells.class(row)) {
        if !classes.contains(class.as_ref()) {
            classes.insert(class.into_owned());
        }
        if classes.len() > MAX_CLASSES {
            let problem = format!("more than {MAX_CLASSES} classes: choose another target, or a regression task");
            return Err(Error::column(name, problem));
        }
    }
    let mut classes: Vec<String> = classes.into_iter().collect();
    if matches!(cells, Cells::Int(_) | Cells::Float(_)) {
        let value = |class: &String| class.parse::<f64>().unwrap_or(f64::NAN);
        classes.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn goal(cells: &Cells<'_>) -> Result<Goal, Error> {
        Goal::of("y", cells, None)
    }

    #[test]
    fn values_determine_the_task() {
        let flags = BooleanArray::from(vec![true, false]);
        let binary = goal(&Cells::Bool(&flags)).expect("two classes");
        assert_eq!(binary, Goal { task: Task::Binary, classes: Some(vec!["false".into(), "true".into()]) });
        let digits = Int64Array::from((0..11).collect::<Vec<_>>());
        let multiclass = goal(&Cells::Int(&digits)).expect("eleven classes");
        assert_eq!((multiclass.task, multiclass.outputs()), (Task::Multiclass, 11));
        assert_eq!(multiclass.classes.expect("classes")[10], "10", "sorted by value");
        let counts = Int64Array::from((0..500).collect::<Vec<_>>());
        assert_eq!(goal(&Cells::Int(&counts)).expect("a quantity").task, Task::Regression);
        let zero_one = Float64Array::from(vec![0.0, 1.0]);
        assert_eq!(goal(&Cells::Float(&zero_one)).expect("two").classes.expect("classes"), ["0", "1"]);
    }

    #[test]
    fn problems_name_the_column_and_the_remedy() {
        let same = StringArray::from(vec!["a", "a"]);
        let error = goal(&Cells::Text(&same)).expect_err("one class").to_string();
        assert!(error.contains("column y") && error.contains("at least two"), "{error}");
        let missing = Int64Array::from(vec![Some(1), None]);
        let error = goal(&Cells::Int(&missing)).expect_err("a missing label").to_string();
        assert!(error.contains("1 of 2 rows"), "{error}");
        let error = Goal::of("y", &Cells::Text(&same), Some(Task::Regression)).expect_err("text").to_string();
        assert!(error.contains("column of numbers"), "{error}");
        let three = StringArray::from(vec!["a", "b", "c"]);
        let error = Goal::of("y", &Cells::Text(&three), Some(Task::Binary)).expect_err("three").to_string();
        assert!(error.contains("2 classes, got 3"), "{error}");
    }
}
