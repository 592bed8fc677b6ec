//! A window's inputs and answers against the profile in the bundle of the version that answered.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use rekindle_domain::Task;
use rekindle_statistics::{
    drift::{self, Verdict as Found},
    profile::{ColumnProfile, Counts},
};

use crate::{
    Error,
    quality::scalar,
    reference::Reference,
    report::{ColumnDrift, Drift, PREDICTION, Verdict, finite},
    segment::{self, INPUT, OUTPUT},
    watch::Settings,
};

/// Compares every feature that has a profile, and the prediction.
pub(crate) fn compare(reference: &Reference, batch: &RecordBatch, settings: &Settings) -> Result<Drift, Error> {
    let profiles = &reference.profiles;
    let settings = drift::Settings {
        margin_psi: settings.drift_margin,
        alpha: settings.false_alarm_rate,
        columns: profiles.features.len() + 1,
        min_rows: settings.min_rows,
    };
    let mut features = Vec::with_capacity(profiles.features.len());
    for feature in &profiles.features {
        let values = segment::column(batch, &format!("{INPUT}{}", feature.name))?;
        let counts = count(&feature.profile, values, &feature.name)?;
        features.push(column(&feature.name, &feature.profile, &counts, &settings)?);
    }
    let counts = count_predictions(reference, batch)?;
    let mut prediction = column(PREDICTION, &profiles.prediction, &counts, &settings)?;
    share_causes(features.iter_mut().chain([&mut prediction]));
    let verdict = Verdict::over(features.iter().chain([&prediction]).map(|column| column.verdict));
    Ok(Drift { verdict, features, prediction: Some(prediction) })
}

fn share_causes<'a>(columns: impl Iterator<Item = &'a mut ColumnDrift>) {
    let columns: Vec<&mut ColumnDrift> = columns.collect();
    let sum: f64 = columns.iter().map(|column| column.psi).sum();
    for column in columns {
        column.cause_share = if sum > 0.0 { finite(column.psi / sum, 0.0) } else { 0.0 };
    }
}

fn column(
    name: &str,
    profile: &ColumnProfile,
    counts: &Counts,
    settings: &drift::Settings,
) -> Result<ColumnDrift, Error> {
    let found = drift::compare(profile, counts, settings)?;
    Ok(ColumnDrift {
        name: name.to_owned(),
        verdict: match found.verdict {
            Found::Stable => Verdict::Stable,
            Found::Drifted => Verdict::Drifted,
            Found::Unknown => Verdict::Unknown,
        },
        psi: finite(found.psi, 0.0),
        p_value: finite(found.p_value, 1.0),
        minimum_detectable_psi: finite(found.minimum_detectable_psi.unwrap_or(f64::INFINITY), f64::MAX),
        cause_share: 0.0,
        missing_reference: profile.reference_counts().missing_share().unwrap_or(0.0),
        missing_current: counts.missing_share().unwrap_or(0.0),
    })
}

fn count_predictions(reference: &Reference, batch: &RecordBatch) -> Result<Counts, Error> {
    let profile = &reference.profiles.prediction;
    let numbers = match reference.manifest.task {
        Task::Binary => scalar(batch, "probability")?,
        Task::Regression => scalar(batch, "prediction")?,
        Task::Multiclass => {
            let labels = segment::column(batch, &format!("{OUTPUT}label"))?;
            return count(profile, labels, PREDICTION);
        }
    };
    Ok(profile.count_numeric(numbers)?)
}

/// Counts a column over its profile's bins. Not-a-number in an input is how a missing value travels.
fn count(profile: &ColumnProfile, values: &dyn Array, name: &str) -> Result<Counts, Error> {
    let wrong = |expected| Error::Column { column: name.to_owned(), expected };
    match profile {
        ColumnProfile::Numeric { .. } => {
            let numbers = segment::numbers(values).ok_or_else(|| wrong("numbers"))?;
            Ok(profile.count_numeric(numbers.into_iter().map(|number| number.filter(|number| !number.is_nan())))?)
        }
        ColumnProfile::Categorical { .. } => {
            if let Some(texts) = values.as_string_opt::<i32>() {
                Ok(profile.count_categorical(texts.iter())?)
            } else if let Some(answers) = values.as_boolean_opt() {
                let text = |answer: bool| if answer { "true" } else { "false" };
                Ok(profile.count_categorical(answers.iter().map(|answer| answer.map(text)))?)
            } else {
                let numbers =
                    values.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("text, booleans or integers"))?;
                let texts: Vec<Option<String>> = numbers.iter().map(|number| number.map(|n| n.to_string())).collect();
                Ok(profile.count_categorical(texts.iter().map(Option::as_deref))?)
            }
        }
    }
}
