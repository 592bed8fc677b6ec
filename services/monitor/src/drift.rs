//! Drift of a window's inputs and predictions from the reference profile in the bundle of the version that answered.

use std::{collections::HashSet, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use chrono::{DateTime, Utc};
use rekindle_bundle::{column::Cells, dependence, reference::FeatureProfile, repeated_rows};
use rekindle_domain::{
    ColumnRule, Task, WatchSettings,
    report::{
        BlockTest, ColumnDrift, Dependence, Drift, DriftCause, ExampleRow, Impact, Interval, MAX_CHANGED_PAIRS,
        MAX_EXAMPLES, MUTED, Onset, PREDICTION, PairChange, RepeatedRows, Verdict,
    },
    slice::{Comparison, Condition, Constant, Test},
};
use rekindle_statistics::{
    blocks::{FixedBins, Variations},
    cause,
    correlation::{Changed, Compared, Term},
    drift::{self, BlockCause, Blockwise, ColumnDrift as Found, Sides},
    profile::ColumnProfile,
};

use crate::{
    Error,
    chunk::columns::{self, INPUT, Keys, OUTPUT, event_times},
    join::Sample,
    outcome::Key,
    quality::scalar,
    reference::Reference,
    report::finite,
};

/// The most rows whose correlations are compared; of more, a sample by their keys.
const COMPARED_ROWS: u64 = 50_000;

/// Compares every feature that has a reference profile, and the prediction. `before` is the drift of the window before, of the same version.
///
/// A reference with blocks of time decides by the differences between its blocks, of about the length of a window.
pub(crate) fn compare(
    reference: &Reference,
    batch: &RecordBatch,
    settings: &WatchSettings,
    before: Option<&Drift>,
) -> Result<Drift, Error> {
    let profiles = &reference.profiles;
    let budget = drift::Settings {
        margin: settings.drift_margin,
        false_alarms: settings.false_alarm_rate,
        looks: WatchSettings::WINDOWS,
    };
    let is_muted = |name: &str| settings.columns.get(name).is_some_and(|rule| rule.muted);
    let margin = |name: &str| settings.columns.get(name).and_then(|rule| rule.drift_margin).unwrap_or(budget.margin);
    let names = profiles.features.iter().map(|feature| feature.name.as_str()).chain([PREDICTION]);
    let level = budget.level(names.filter(|name| !is_muted(name)).count().max(1));
    let window = i64::try_from(settings.window.as_millis()).unwrap_or(i64::MAX);
    let variations = profiles.blocks.as_ref().map_or_else(Variations::new, |blocks| blocks.variations(window));
    let compared = |name: &str, reference, window: &_| {
        let blocks = variations.get(name).map(|variation| Blockwise { variation, beyond_before: beyond(before, name) });
        drift::compare_column_in_blocks(name, reference, window, blocks, level, margin(name))
    };
    let (mut found, mut unlogged) = (Vec::with_capacity(profiles.features.len() + 1), Vec::new());
    let mut windows: Vec<(&str, ColumnProfile)> = Vec::new();
    let mut impacts: Vec<(&str, Impact)> = Vec::new();
    let mut grown_values: Vec<(&str, Grown)> = Vec::new();
    for feature in &profiles.features {
        let Ok(values) = columns::column(batch, &format!("{INPUT}{}", feature.name)) else {
            unlogged.push(not_logged(&feature.name));
            continue;
        };
        let window = profile(&feature.profile, values, &feature.name)?;
        found.push(compared(&feature.name, &feature.profile, &window));
        // Only drifted columns are compared again.
        if found.last().is_some_and(|found| found.verdict == drift::Verdict::Drifted) {
            impacts.extend(impact(profiles, feature, &window).map(|impact| (feature.name.as_str(), impact)));
            grown_values.extend(grown(feature, &window, values, batch)?.map(|grown| (feature.name.as_str(), grown)));
            windows.push((feature.name.as_str(), window));
        }
    }
    drift::point_out_swapped(
        &mut found,
        |name| profiles.feature(name),
        |name| windows.iter().find(|(feature, _)| *feature == name).map(|(_, window)| window),
        level,
        budget.margin,
    );
    found.push(compared(PREDICTION, &profiles.prediction, &profile_predictions(reference, batch)?));
    let (muted, mut found): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|found| is_muted(&found.name));
    share_out(profiles, &mut found);
    let over_columns = drift::Verdict::over(found.iter().map(|found| found.verdict));
    let too_few = too_few(batch.num_rows() as u64, settings.min_rows);
    let verdict = if too_few.is_some() { Verdict::Inconclusive } else { verdict(over_columns) };
    let rows = Sides { reference: profiles.prediction.rows(), current: batch.num_rows() as u64 };
    let mut features: Vec<ColumnDrift> =
        found.into_iter().map(|found| column(found, rows, too_few.as_deref())).collect();
    for muted in muted {
        let rule = settings.columns.get(&muted.name).cloned().unwrap_or_default();
        features.push(decide_nothing(column(muted, rows, too_few.as_deref()), &rule));
    }
    for column in &mut features {
        column.impact = impacts.iter().find(|(name, _)| *name == column.name).map(|(_, impact)| *impact);
        let of_column = grown_values.iter().find(|(name, _)| *name == column.name).map(|(_, grown)| grown);
        if let Some(grown) = of_column.filter(|_| column.verdict == Verdict::Drifted) {
            column.examples.clone_from(&grown.examples);
            if grown.is_unseen && column.cause != Some(DriftCause::DataFault) {
                column.cause = Some(DriftCause::NewCategory);
            }
        }
    }
    if too_few.is_some() {
        // A window without a verdict neither continues nor ends a run of windows.
        for column in &mut features {
            let windows_beyond = beyond(before, &column.name);
            column.blocks.iter_mut().for_each(|blocks| blocks.windows_beyond = windows_beyond);
        }
    }
    let prediction = features.iter().position(|column| column.name == PREDICTION).map(|index| features.remove(index));
    let repeated = if unlogged.is_empty() { repeated(reference, batch)? } else { None };
    let dependence = if too_few.is_some() { None } else { dependence(profiles, batch, settings, is_muted)? };
    features.extend(unlogged);
    Ok(Drift { repeated, dependence, ..Drift::of(verdict, features, prediction) })
}

/// The values of a drifted feature that have become more frequent.
struct Grown {
    /// Whether the reference does not have them.
    is_unseen: bool,
    /// Their first rows by event time; none of categories that are written as integers.
    examples: Vec<ExampleRow>,
}

fn grown(
    feature: &FeatureProfile,
    window: &ColumnProfile,
    values: &dyn Array,
    batch: &RecordBatch,
) -> Result<Option<Grown>, Error> {
    let Some(bins) = FixedBins::of(&feature.profile) else { return Ok(None) };
    let Some(bin) = bins.grown(&feature.profile, window) else { return Ok(None) };
    let is_unseen = bins.unseen() == Some(bin);
    let known: HashSet<String> = match &feature.profile {
        ColumnProfile::Categorical(values) if is_unseen => {
            values.top(usize::MAX).into_iter().map(|(value, _)| value).collect()
        }
        _ => HashSet::new(),
    };
    let (keys, times) = (Keys::of(batch)?, event_times(batch)?);
    let cells = Cells::of(values);
    let is_among = |row: &usize| match &cells {
        Some(cells) if is_unseen => cells.text(*row).is_some_and(|text| !known.contains(text)),
        Some(cells) => cells.bin(&bins, *row) == bin,
        None => false,
    };
    // Whatever the order of the log.
    let mut found: Vec<(i64, Key)> = Vec::new();
    for row in (0..batch.num_rows()).filter(is_among) {
        let next = (times.value(row), keys.key(row));
        let at = found.partition_point(|earlier| *earlier < next);
        if at < MAX_EXAMPLES {
            found.insert(at, next);
            found.truncate(MAX_EXAMPLES);
        }
    }
    let examples = found.into_iter().map(|(_, key)| ExampleRow { prediction: key.prediction_id(), row: key.row });
    let examples = examples.collect();
    Ok(Some(Grown { is_unseen, examples }))
}

/// The correlations of the features that nobody has muted; `None` if the reference data have none in blocks of about the length of a window.
fn dependence(
    profiles: &rekindle_bundle::Reference,
    batch: &RecordBatch,
    settings: &WatchSettings,
    is_muted: impl Fn(&str) -> bool,
) -> Result<Option<Dependence>, Error> {
    let Some(reference) = &profiles.correlations else { return Ok(None) };
    let feature = |name: &str| {
        let cells = batch.column_by_name(&format!("{INPUT}{name}")).and_then(|values| Cells::of(values.as_ref()));
        cells.filter(|_| !is_muted(name))
    };
    let window = i64::try_from(settings.window.as_millis()).unwrap_or(i64::MAX);
    let level = settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS);
    let keys = Keys::of(batch)?;
    let sample = Sample::of_rows(batch.num_rows() as u64, COMPARED_ROWS);
    let rows: Vec<usize> = (0..batch.num_rows()).filter(|&row| sample.selects(keys.key(row))).collect();
    let Compared { pairs, changed } = dependence::compare(reference, feature, &rows, (window, level))?;
    let change = |changed: Changed| PairChange {
        features: changed.terms.map(term),
        correlation: finite(changed.correlation, 0.0),
        reference: finite(changed.reference, 0.0),
        expected: Interval { lower: finite(changed.expected.0, -1.0), upper: finite(changed.expected.1, 1.0) },
    };
    let changed = changed.into_iter().take(MAX_CHANGED_PAIRS).map(change).collect();
    Ok((pairs > 0).then_some(Dependence { pairs, changed }))
}

/// A feature, or the condition that it has a value.
fn term(term: Term) -> String {
    match term.value {
        Some(value) => {
            let test = Test::Compare(Comparison::Equal, Constant::Text(value));
            Condition::Is { feature: term.column, test }.to_string()
        }
        None => term.column,
    }
}

/// What the shift of a feature to its values in a window means to the model; `None` if the bundle does not say.
fn impact(profiles: &rekindle_bundle::Reference, feature: &FeatureProfile, window: &ColumnProfile) -> Option<Impact> {
    let validated = profiles.validation.as_ref()?.feature(&feature.name)?;
    let moved = validated.effect.as_ref()?.moved(&feature.profile, window)?;
    Some(Impact { importance: validated.importance, score_change: moved.score, loss_change: moved.loss })
}

/// Sets the share of each drifted column, weighted by the importance of the feature for the model. The prediction, which follows from the
/// features, has a share only if no important feature has drifted.
fn share_out(profiles: &rekindle_bundle::Reference, found: &mut [Found]) {
    let importance = |name: &str| profiles.validation.as_ref()?.feature(name)?.importance;
    cause::share_out(found, |name| importance(name).unwrap_or(0.0));
    if found.iter().all(|column| column.cause_share == 0.0) {
        cause::share_out(found, |_| 1.0);
    }
}

/// Notes since when columns are away from the reference, drifted or further than all of its blocks, and how they came to drift. `before` is the drift of the window
/// before, of the same version, and `from` the start of this window.
pub(crate) fn note_onset(drift: &mut Drift, before: Option<&Drift>, from: DateTime<Utc>) {
    for column in drift.features.iter_mut().chain(&mut drift.prediction) {
        let earlier = before.and_then(|before| before.columns().find(|earlier| earlier.name == column.name));
        let of_run = earlier.filter(|earlier| earlier.since.is_some()).and_then(|earlier| earlier.onset);
        let began = earlier.map(|earlier| if earlier.psi < column.psi / 2.0 { Onset::Abrupt } else { Onset::Gradual });
        let earlier = earlier.and_then(|earlier| earlier.since);
        let is_beyond = column.blocks.is_some_and(|blocks| blocks.windows_beyond > 0);
        column.since = match column.verdict {
            Verdict::Drifted => earlier.or(Some(from)),
            Verdict::Inconclusive if is_beyond => earlier.or(Some(from)),
            // A window without a verdict neither continues nor ends a run of windows.
            Verdict::Inconclusive if column.blocks.is_none() => earlier,
            Verdict::Inconclusive | Verdict::Stable => None,
        };
        column.onset = match column.verdict {
            Verdict::Drifted => of_run.or(began),
            Verdict::Inconclusive | Verdict::Stable => of_run.filter(|_| column.since.is_some()),
        };
    }
}

/// The rows that repeat an earlier one; `None` if the reference data do not say how many are usual.
fn repeated(reference: &Reference, batch: &RecordBatch) -> Result<Option<RepeatedRows>, Error> {
    // Without event times of their own, rows that arrive together have one.
    let has_times = reference.manifest.signature.time_input.is_some();
    let Some(reference_share) = reference.profiles.repeated_share().filter(|_| has_times) else { return Ok(None) };
    let features = reference.profiles.features.iter();
    let columns: Vec<ArrayRef> =
        features.filter_map(|feature| batch.column_by_name(&format!("{INPUT}{}", feature.name))).cloned().collect();
    let rows = repeated_rows(&columns, event_times(batch)?.values())?;
    let share = rows as f64 / (batch.num_rows() as f64).max(1.0);
    Ok(Some(RepeatedRows { rows, share, reference_share }))
}

/// The number of windows up to the one before in which a column was further from the reference than all of its blocks.
fn beyond(before: Option<&Drift>, name: &str) -> u32 {
    let column = before.and_then(|before| before.columns().find(|column| column.name == name));
    column.and_then(|column| column.blocks).map_or(0, |blocks| blocks.windows_beyond)
}

/// Why every column of a window with fewer rows than the watch requires is inconclusive; `None` if it has enough.
fn too_few(rows: u64, least: u64) -> Option<String> {
    (rows < least).then(|| format!("the window has {rows} rows, min_rows is {least}"))
}

fn verdict(verdict: drift::Verdict) -> Verdict {
    match verdict {
        drift::Verdict::Stable => Verdict::Stable,
        drift::Verdict::Drifted => Verdict::Drifted,
        drift::Verdict::Inconclusive => Verdict::Inconclusive,
    }
}

fn column(found: Found, rows: Sides<u64>, too_few: Option<&str>) -> ColumnDrift {
    ColumnDrift {
        cause: cause_of(&found, rows).filter(|_| too_few.is_none()),
        name: found.name,
        verdict: if too_few.is_some() { Verdict::Inconclusive } else { verdict(found.verdict) },
        reason: too_few.map_or(found.reason, str::to_owned),
        psi: finite(found.psi, 0.0),
        p_value: finite(found.p_value, 1.0),
        minimum_detectable_psi: finite(found.minimum_detectable_effect.unwrap_or(f64::INFINITY), f64::MAX),
        cause_share: found.cause_share,
        missing_reference: found.missing.reference,
        missing_current: found.missing.current,
        blocks: found.blocks.map(|test| block_test(&test)),
        impact: None,
        since: None,
        onset: None,
        examples: Vec::new(),
    }
}

fn cause_of(found: &Found, rows: Sides<u64>) -> Option<DriftCause> {
    if found.is_data_fault(rows) {
        return Some(DriftCause::DataFault);
    }
    found.blocks.and_then(|blocks| blocks.cause).map(|cause| match cause {
        BlockCause::BeyondReference => DriftCause::BeyondReference,
        BlockCause::UnseenSeason => DriftCause::UnseenSeason,
    })
}

fn block_test(test: &drift::BlockTest) -> BlockTest {
    BlockTest {
        length: Duration::from_millis(test.block_length.unsigned_abs()),
        blocks: test.blocks,
        effective_blocks: finite(test.effective_blocks, 0.0),
        autocorrelation: finite(test.autocorrelation, 0.0),
        effect: finite(test.effect, 0.0),
        largest_effect: finite(test.largest_effect, 0.0),
        p_value: finite(test.p_value, 1.0),
        windows_beyond: test.windows_beyond,
    }
}

/// A column whose drift a person has muted: its numbers are shown.
fn decide_nothing(column: ColumnDrift, rule: &ColumnRule) -> ColumnDrift {
    let by = if rule.by.is_empty() { String::new() } else { format!(" by {}", rule.by) };
    let otherwise = match column.verdict {
        Verdict::Drifted if column.reason.is_empty() => "; it has drifted".to_owned(),
        Verdict::Drifted => format!("; it has drifted: {}", column.reason),
        Verdict::Stable | Verdict::Inconclusive => String::new(),
    };
    let reason = format!("{MUTED}{by}: {}{otherwise}", rule.why);
    ColumnDrift { verdict: Verdict::Inconclusive, reason, cause_share: 0.0, cause: None, ..column }
}

/// A feature whose values the log does not have, because they are redacted. It decides nothing about the window.
fn not_logged(name: &str) -> ColumnDrift {
    ColumnDrift {
        name: name.to_owned(),
        verdict: Verdict::Inconclusive,
        reason: "its values are not logged".to_owned(),
        psi: 0.0,
        p_value: 1.0,
        minimum_detectable_psi: f64::MAX,
        cause_share: 0.0,
        missing_reference: 0.0,
        missing_current: 0.0,
        cause: None,
        blocks: None,
        impact: None,
        since: None,
        onset: None,
        examples: Vec::new(),
    }
}

fn profile_predictions(reference: &Reference, batch: &RecordBatch) -> Result<ColumnProfile, Error> {
    let numbers = match reference.manifest.task {
        Task::Binary => scalar(batch, "probability")?,
        Task::Regression => scalar(batch, "prediction")?,
        Task::Multiclass => {
            let labels = columns::column(batch, &format!("{OUTPUT}label"))?;
            return profile(&reference.profiles.prediction, labels, PREDICTION);
        }
    };
    Ok(ColumnProfile::of_numbers(numbers))
}

/// Profiles a column by the kind of its reference profile. NaN in an input stands for a missing value.
fn profile(reference: &ColumnProfile, values: &dyn Array, name: &str) -> Result<ColumnProfile, Error> {
    let wrong = |expected| Error::Column { column: name.to_owned(), expected };
    match reference {
        ColumnProfile::Numeric(_) => {
            let numbers = columns::numbers(values).ok_or_else(|| wrong("numbers"))?;
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
        ColumnProfile::Timestamp(_) => Err(wrong("any type but timestamp")),
    }
}

#[cfg(test)]
mod tests;
