//! A window's inputs and answers against the profile in the bundle of the version that answered.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use rekindle_domain::Task;
use rekindle_statistics::{
    cause,
    drift::{self, ColumnDrift as Found},
    profile::ColumnProfile,
};

use crate::{
    Error,
    quality::scalar,
    reference::Reference,
    report::{ColumnDrift, Drift, PREDICTION, Verdict, finite},
    segment::{self, INPUT, OUTPUT},
    watch::{LOOKS, Settings},
};

/// Compares every feature that has a profile, and the prediction.
pub(crate) fn compare(reference: &Reference, batch: &RecordBatch, settings: &Settings) -> Result<Drift, Error> {
    let profiles = &reference.profiles;
    let budget =
        drift::Settings { margin: settings.drift_margin, false_alarms: settings.false_alarm_rate, looks: LOOKS };
    let level = budget.level(profiles.features.len() + 1);
    let compared =
        |name: &str, reference, window: &_| drift::compare_column(name, reference, window, level, budget.margin);
    let mut found = Vec::with_capacity(profiles.features.len() + 1);
    for feature in &profiles.features {
        let values = segment::column(batch, &format!("{INPUT}{}", feature.name))?;
        let window = profile(&feature.profile, values, &feature.name)?;
        found.push(compared(&feature.name, &feature.profile, &window));
    }
    found.push(compared(PREDICTION, &profiles.prediction, &profile_predictions(reference, batch)?));
    cause::share_out(&mut found, |_| 1.0);
    let verdict = drift::Verdict::over(found.iter().map(|found| found.verdict));
    let too_few = too_few(batch.num_rows() as u64, settings.min_rows);
    let verdict = if too_few.is_some() { Verdict::Unknown } else { verdict.into() };
    let mut features: Vec<ColumnDrift> = found.into_iter().map(|found| column(found, too_few.as_deref())).collect();
    let prediction = features.pop();
    Ok(Drift { verdict, features, prediction })
}

/// Why nothing is said of any column of so small a window.
fn too_few(rows: u64, least: u64) -> Option<String> {
    (rows < least).then(|| format!("the window has {rows} rows, the watch asks for {least}"))
}

fn column(found: Found, too_few: Option<&str>) -> ColumnDrift {
    ColumnDrift {
        name: found.name,
        verdict: if too_few.is_some() { Verdict::Unknown } else { found.verdict.into() },
        reason: too_few.map_or(found.reason, str::to_owned),
        psi: finite(found.psi, 0.0),
        p_value: finite(found.p_value, 1.0),
        minimum_detectable_psi: finite(found.minimum_detectable_effect.unwrap_or(f64::INFINITY), f64::MAX),
        cause_share: found.cause_share,
        missing_reference: found.missing.reference,
        missing_current: found.missing.current,
    }
}

fn profile_predictions(reference: &Reference, batch: &RecordBatch) -> Result<ColumnProfile, Error> {
    let numbers = match reference.manifest.task {
        Task::Binary => scalar(batch, "probability")?,
        Task::Regression => scalar(batch, "prediction")?,
        Task::Multiclass => {
            let labels = segment::column(batch, &format!("{OUTPUT}label"))?;
            return profile(&reference.profiles.prediction, labels, PREDICTION);
        }
    };
    Ok(ColumnProfile::of_numbers(numbers))
}

/// Profiles a column as its reference was. Not-a-number in an input is how a missing value travels.
fn profile(reference: &ColumnProfile, values: &dyn Array, name: &str) -> Result<ColumnProfile, Error> {
    let wrong = |expected| Error::Column { column: name.to_owned(), expected };
    match reference {
        ColumnProfile::Numeric(_) => {
            let numbers = segment::numbers(values).ok_or_else(|| wrong("numbers"))?;
            Ok(ColumnProfile::of_numbers(numbers.into_iter().map(|number| number.filter(|number| !number.is_nan()))))
        }
        ColumnProfile::Boolean(_) => {
            Ok(ColumnProfile::of_flags(values.as_boolean_opt().ok_or_else(|| wrong("booleans"))?.iter()))
        }
        ColumnProfile::Categorical(_) => match values.as_string_opt::<i32>() {
            Some(texts) => Ok(ColumnProfile::of_texts(texts.iter())),
            None => {
                let numbers = values.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("text or integers"))?;
                let texts: Vec<Option<String>> = numbers.iter().map(|number| number.map(|n| n.to_string())).collect();
                Ok(ColumnProfile::of_texts(texts.iter().map(Option::as_deref)))
            }
        },
        ColumnProfile::Timestamp(_) => Err(wrong("no timestamps: they have no profile")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_window_is_no_drift_and_says_why() {
        let reference = ColumnProfile::of_numbers((0..1000).map(|number| Some(f64::from(number))));
        let window = ColumnProfile::of_numbers((0..100).map(|_| Some(-1.0)));
        let found = || drift::compare_column("x", &reference, &window, 1e-3, 0.1);
        let (told, untold) = (column(found(), None), column(found(), too_few(100, 200).as_deref()));
        assert_eq!((told.verdict, untold.verdict), (Verdict::Drifted, Verdict::Unknown));
        assert!(told.reason.contains("lie below 0"), "{}", told.reason);
        assert_eq!(untold.reason, "the window has 100 rows, the watch asks for 200");
        assert_eq!(too_few(200, 200), None);
    }
}
