//! The quality of slices: of those that the settings declare, and of those whose loss rose most.

use std::collections::{BTreeMap, HashSet};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take,
};
use rekindle_bundle::{
    LossSample,
    column::{self, Cells},
    reference::FeatureProfile,
    slice::select,
};
use rekindle_domain::{
    Slice, WatchSettings,
    outcome::Label,
    report::{SliceQuality, Verdict},
    slice::{Comparison, Condition, Constant, Test},
};
use rekindle_statistics::{
    paired::batch_means,
    profile::ColumnProfile,
    rise::{self, rise_at},
    slices::{self, Search},
};

use super::{mean, metrics::Intervals, scored::Scored};
use crate::{Error, chunk::columns::INPUT, reference::Reference, report::finite};

/// The most slices that are measured, and the most values of a feature that are slices.
const MOST: usize = 100;
const MOST_VALUES: usize = 20;
/// The most slices that are found.
const MOST_FOUND: usize = 3;
/// The most features whose slices are searched, and the most values of each.
const SEARCHED_FEATURES: usize = 15;
const SEARCHED_VALUES: usize = 10;
/// The most rows that are searched; of more, a sample.
const SEARCHED_ROWS: usize = 20_000;
/// Slices have one half of the budget if they are declared, and one half if they are found.
const HALVES: f64 = 2.0;

/// The rows of a window in order of event time, and what they are compared with.
pub(super) struct Rows<'a> {
    pub(super) reference: &'a Reference,
    pub(super) sample: Option<&'a LossSample>,
    pub(super) batch: &'a RecordBatch,
    /// One per row.
    pub(super) labels: &'a [Option<&'a Label>],
    pub(super) scored: &'a Scored,
}

/// The columns of the features that the slices of a window are about: those that the settings declare and, if slices are searched, the most
/// important ones.
pub(crate) fn inputs(reference: &Reference, settings: &WatchSettings) -> HashSet<String> {
    let declared = settings.slices.iter().flat_map(Slice::features);
    let searched = reference.profiles.by_importance().into_iter().take(if reference.has_loss_sample() {
        SEARCHED_FEATURES
    } else {
        0
    });
    let names = declared.chain(searched.map(|feature| feature.name.as_str()));
    names.map(|name| format!("{INPUT}{name}")).collect()
}

/// The quality of each declared slice and, if they are searched, of those that are found.
pub(super) fn measure(
    rows: &Rows<'_>,
    is_searched: bool,
    settings: &WatchSettings,
) -> Result<Vec<SliceQuality>, Error> {
    let level = settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS) / HALVES;
    let declared = rows.declared(&settings.slices);
    let of_one = level / (declared.len() as f64).max(1.0);
    let mut measured = Vec::with_capacity(declared.len());
    for (name, condition) in declared {
        let quality = match condition.and_then(|condition| Ok((rows.of_window(&condition)?, condition))) {
            Ok((selected, condition)) => rows.quality(name, &selected, rows.of_sample(&condition), of_one, settings)?,
            Err(reason) => inconclusive(name, reason),
        };
        measured.push(quality);
    }
    if is_searched {
        for quality in rows.found(level, settings)? {
            // A declared slice that is degraded says the same.
            if !measured.iter().any(|other| other.slice == quality.slice && other.verdict == Verdict::Drifted) {
                measured.push(quality);
            }
        }
    }
    Ok(measured)
}

impl Rows<'_> {
    /// The name and the condition of each declared slice, or why it is not measured: conditions first, then the values of features.
    fn declared(&self, slices: &[Slice]) -> Vec<(String, Result<Condition, String>)> {
        let mut declared = Vec::new();
        for slice in slices {
            if let Slice::Where(condition) = slice {
                declared.push((slice.to_string(), Ok(condition.clone())));
            }
        }
        for slice in slices {
            let Slice::ByValue(name) = slice else { continue };
            let feature = self.reference.profiles.features.iter().find(|feature| feature.name == *name);
            let terms = feature.map(|feature| terms(feature, MOST_VALUES)).unwrap_or_default();
            let reason = match feature {
                None => Some(format!("{name} is no feature")),
                Some(_) if terms.is_empty() => Some(format!("the reference data have no values of {name}")),
                Some(_) if declared.len() + terms.len() > MOST => Some(format!("at most {MOST} slices are measured")),
                Some(_) => None,
            };
            match reason {
                Some(reason) => declared.push((slice.to_string(), Err(reason))),
                None => declared.extend(terms.into_iter().map(|term| (term.to_string(), Ok(term)))),
            }
        }
        declared
    }

    /// Whether each row of the window meets a condition.
    fn of_window(&self, condition: &Condition) -> Result<Vec<bool>, String> {
        let is_feature = |name: &str| self.reference.profiles.feature(name).is_some();
        let feature = |name: &str| column::find(self.batch, &format!("{INPUT}{name}"), 0).and_then(Cells::of);
        select(condition, self.batch.num_rows(), &feature).map_err(|reason| {
            let unlogged = Slice::Where(condition.clone());
            let unlogged = unlogged.features().into_iter().find(|name| is_feature(name) && feature(name).is_none());
            unlogged.map_or(reason, |name| format!("the values of {name} are not logged"))
        })
    }

    /// The losses of the sampled validation rows that meet a condition; none if they cannot say it.
    fn of_sample(&self, condition: &Condition) -> Vec<f64> {
        let Some(sample) = self.sample else { return Vec::new() };
        let selected = select(condition, sample.rows(), &|name: &str| sample.feature(name)).unwrap_or_default();
        let losses = sample.losses().iter().zip(selected);
        losses.filter(|(_, is_selected)| *is_selected).map(|(loss, _)| *loss).collect()
    }

    /// The quality of the selected rows beside the losses of the validation rows of the slice.
    fn quality(
        &self,
        name: String,
        selected: &[bool],
        reference: Vec<f64>,
        level: f64,
        settings: &WatchSettings,
    ) -> Result<SliceQuality, Error> {
        let Scored { losses, measured, .. } = self.scored(selected)?;
        let (rows, least) = (losses.len(), usize::try_from(settings.min_rows).unwrap_or(usize::MAX).max(2));
        let mut quality = measured_slice(name, &losses, &reference, measured.metrics);
        if rows < least {
            quality.reason = format!("too few labelled rows: {rows}, min_rows is {least}");
            return Ok(quality);
        }
        if reference.len() < Search::LEAST_ROWS {
            let (rows, least) = (reference.len(), Search::LEAST_ROWS);
            quality.reason = format!("the slice has {rows} of the sampled validation rows, and {least} are needed");
            return Ok(quality);
        }
        // Neighbouring rows depend on each other, on both sides.
        let found = if rows >= Search::LEAST_ROWS {
            rise_at(&batch_means(&losses)?, &rise::Reference::of(&batch_means(&reference)?)?, level)?
        } else {
            rise_at(&losses, &rise::Reference::of(&reference)?, level)?
        };
        let is_degraded = found.lower_bound > settings.degradation_margin * quality.reference_loss.abs();
        quality.verdict = if is_degraded { Verdict::Drifted } else { Verdict::Stable };
        quality.rise_lower_bound = finite(found.lower_bound, 0.0);
        Ok(quality)
    }

    /// The selected rows with a label.
    fn scored(&self, selected: &[bool]) -> Result<Scored, Error> {
        let labels = self.labels.iter().zip(selected);
        let labels = labels.map(|(label, is_selected)| label.filter(|_| *is_selected));
        Scored::of(&self.reference.manifest, self.batch, labels, Intervals::Omitted)
    }

    /// The slices whose loss rose most, by the values of one feature or of two.
    fn found(&self, level: f64, settings: &WatchSettings) -> Result<Vec<SliceQuality>, Error> {
        let Some(sample) = self.sample else { return Ok(Vec::new()) };
        let every = self.scored.losses.len().div_ceil(SEARCHED_ROWS).max(1);
        let rows: UInt32Array =
            self.scored.rows.iter().step_by(every).filter_map(|&row| u32::try_from(row).ok()).collect();
        let (mut conditions, mut features) = (Vec::new(), Vec::new());
        let (mut of_window, mut of_sample) = (Vec::new(), Vec::new());
        for (number, feature) in self.reference.profiles.by_importance().into_iter().take(SEARCHED_FEATURES).enumerate()
        {
            let Some(values) = self.batch.column_by_name(&format!("{INPUT}{}", feature.name)) else { continue };
            let values = take(values, &rows, None)?;
            for condition in terms(feature, SEARCHED_VALUES) {
                let selected = select(&condition, rows.len(), &|_: &str| Cells::of(values.as_ref()));
                let sampled = select(&condition, sample.rows(), &|name: &str| sample.feature(name));
                // A feature that is not in the sample, or whose type has changed.
                let (Ok(selected), Ok(sampled)) = (selected, sampled) else { continue };
                of_window.push(selected);
                of_sample.push(sampled);
                conditions.push(condition);
                features.push(number);
            }
        }
        let losses = self.scored.losses.iter().step_by(every).copied().collect();
        let window = slices::Rows::new(losses, of_window.iter().map(Vec::as_slice))?;
        let reference = slices::Rows::new(sample.losses().to_vec(), of_sample.iter().map(Vec::as_slice))?;
        let search = Search {
            false_alarms: level,
            margin: settings.degradation_margin,
            least_rows: usize::try_from(settings.min_rows).unwrap_or(usize::MAX),
            most: MOST_FOUND,
        };
        let found = slices::worst(&window, &reference, &features, &search)?;
        let quality = |found: slices::Found| {
            let condition = all(found.conditions.iter().map(|&condition| conditions[condition].clone()).collect());
            let selected = self.of_window(&condition).unwrap_or_default();
            let Scored { losses, measured, .. } = self.scored(&selected)?;
            Ok(SliceQuality {
                found: true,
                verdict: Verdict::Drifted,
                rise_lower_bound: finite(found.rise.lower_bound, 0.0),
                ..measured_slice(condition.to_string(), &losses, &self.of_sample(&condition), measured.metrics)
            })
        };
        found.into_iter().map(quality).collect()
    }
}

/// A slice with its losses and metrics, without a verdict.
fn measured_slice(slice: String, losses: &[f64], reference: &[f64], metrics: BTreeMap<String, f64>) -> SliceQuality {
    SliceQuality {
        labelled_rows: losses.len() as u64,
        loss: mean(losses),
        reference_loss: mean(reference),
        reference_rows: reference.len() as u64,
        // Those over all classes.
        metrics: metrics.into_iter().filter(|(name, _)| !name.contains('.')).collect(),
        ..inconclusive(slice, String::new())
    }
}

/// A slice without a verdict.
fn inconclusive(slice: String, reason: String) -> SliceQuality {
    SliceQuality {
        slice,
        found: false,
        verdict: Verdict::Inconclusive,
        reason,
        labelled_rows: 0,
        metrics: BTreeMap::new(),
        loss: 0.0,
        reference_loss: 0.0,
        reference_rows: 0,
        rise_lower_bound: 0.0,
    }
}

/// The slices of one feature: its most frequent values, at most `most`; of numbers, the quarters of the reference data and the tenths at
/// both ends.
fn terms(feature: &FeatureProfile, most: usize) -> Vec<Condition> {
    let is = |test: Test| Condition::Is { feature: feature.name.clone(), test };
    let compared = |comparison, constant| is(Test::Compare(comparison, constant));
    let mut terms = match &feature.profile {
        ColumnProfile::Numeric(numbers) => {
            let at = |share: f64| numbers.quantile(share).map(rounded);
            let below = |limit| compared(Comparison::LessOrEqual, Constant::Number(limit));
            let above = |limit| compared(Comparison::Greater, Constant::Number(limit));
            let mut limits: Vec<f64> = [0.25, 0.5, 0.75].into_iter().filter_map(at).collect();
            limits.dedup();
            let mut terms: Vec<Condition> =
                limits.windows(2).map(|pair| all(vec![above(pair[0]), below(pair[1])])).collect();
            terms.extend(limits.first().map(|&limit| below(limit)));
            terms.extend(limits.last().map(|&limit| above(limit)));
            terms.extend(at(0.1).filter(|limit| !limits.contains(limit)).map(below));
            terms.extend(at(0.9).filter(|limit| !limits.contains(limit)).map(above));
            terms
        }
        ColumnProfile::Categorical(values) => {
            let values = values.top(most).into_iter();
            values.map(|(value, _)| compared(Comparison::Equal, Constant::Text(value))).collect()
        }
        ColumnProfile::Boolean(_) => [false, true].map(|flag| compared(Comparison::Equal, Constant::Flag(flag))).into(),
        ColumnProfile::Timestamp(_) => Vec::new(),
    };
    if feature.profile.missing() > 0 {
        terms.push(is(Test::Missing));
    }
    terms
}

/// All conditions, those within conjunctions among them.
fn all(conditions: Vec<Condition>) -> Condition {
    let parts = conditions.into_iter().flat_map(|condition| match condition {
        Condition::All(parts) => parts,
        other => vec![other],
    });
    let mut parts: Vec<Condition> = parts.collect();
    if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) }
}

/// A number to three significant digits: a limit that a person can read.
fn rounded(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, StringArray};
    use rekindle_bundle::Reference as Profiles;
    use rekindle_domain::Task;

    use super::*;
    use crate::{chunk::columns::OUTPUT, quality::tests::manifest};

    const ROWS: usize = 2_000;

    /// A number and one of four texts.
    fn values(seed: usize) -> (Vec<f64>, Vec<&'static str>) {
        let number = |row: usize| ((row + seed) * 7_919 % ROWS) as f64 / 20.0;
        let text = |row: usize| ["a", "b", "c", "d"][(row * 31 + seed) / 7 % 4];
        (0..ROWS).map(|row| (number(row), text(row))).unzip()
    }

    struct Given {
        reference: Reference,
        sample: LossSample,
        batch: RecordBatch,
        labels: Vec<Option<Label>>,
    }

    /// A regression whose errors are 1, and 3 of the rows that are worse.
    fn given(is_worse: impl Fn(f64, &str) -> bool) -> Given {
        let columns = |prefix: &str, (numbers, texts): (Vec<f64>, Vec<&str>)| -> Vec<(String, ArrayRef)> {
            vec![
                (format!("{prefix}x"), Arc::new(Float64Array::from(numbers))),
                (format!("{prefix}kind"), Arc::new(StringArray::from(texts))),
            ]
        };
        let validation = RecordBatch::try_from_iter(columns("", values(3))).expect("columns");
        let errors = |row: usize| 1.0 + (row * 13 % 10) as f64 / 10.0;
        let losses: Vec<f64> = (0..ROWS).map(errors).collect();
        let (numbers, texts) = values(3);
        let feature = |name: &str, profile| FeatureProfile { name: name.to_owned(), profile };
        let profiles = Profiles {
            features: vec![
                feature("x", ColumnProfile::of_numbers(numbers.into_iter().map(Some))),
                feature("kind", ColumnProfile::of_texts(texts.into_iter().map(Some))),
            ],
            prediction: ColumnProfile::of_numbers([]),
            blocks: None,
            repeated: None,
            correlations: None,
            validation: None,
        };
        let (numbers, texts) = values(8);
        let error = |row: usize| errors(row).sqrt() + if is_worse(numbers[row], texts[row]) { 1.0 } else { 0.0 };
        let outputs: Vec<f32> = (0..ROWS).map(|row| error(row) as f32).collect();
        let mut of_window = columns(INPUT, (numbers, texts));
        of_window.push((format!("{OUTPUT}prediction"), Arc::new(Float32Array::from(outputs))));
        Given {
            reference: Reference { manifest: manifest(Task::Regression, None, 1.45), profiles },
            sample: LossSample::of(&validation, ["x", "kind"], &losses).expect("columns"),
            batch: RecordBatch::try_from_iter(of_window).expect("columns"),
            labels: vec![Some(Label::Number(0.0)); ROWS],
        }
    }

    fn measured(given: &Given, declared: &[&str], has_sample: bool) -> Vec<SliceQuality> {
        let slices = declared.iter().map(|text| text.parse().expect("a slice")).collect();
        let settings = WatchSettings { slices, min_rows: 110, ..WatchSettings::default() };
        let labels: Vec<Option<&Label>> = given.labels.iter().map(Option::as_ref).collect();
        let Given { reference, sample, batch, .. } = given;
        let scored =
            Scored::of(&reference.manifest, batch, labels.iter().copied(), Intervals::Omitted).expect("numbers");
        let sample = has_sample.then_some(sample);
        let rows = Rows { reference, sample, batch, labels: &labels, scored: &scored };
        measure(&rows, has_sample, &settings).expect("columns of the features")
    }

    fn verdicts(measured: &[SliceQuality]) -> Vec<(&str, Verdict)> {
        measured.iter().map(|slice| (slice.slice.as_str(), slice.verdict)).collect()
    }

    #[test]
    fn a_worse_slice_is_found_by_its_values_if_none_is_declared() {
        use Verdict::Drifted;
        assert_eq!(verdicts(&measured(&given(|_, _| false), &[], true)), []);
        let one = measured(&given(|_, kind| kind == "b"), &[], true);
        assert_eq!(verdicts(&one), [("kind = 'b'", Drifted)]);
        assert!(one[0].found && one[0].loss > 2.0 * one[0].reference_loss, "{one:?}");
        assert!(one[0].metrics.contains_key("rmse"), "{one:?}");
        let two = measured(&given(|x, kind| x > 74.9 && kind == "c"), &[], true);
        assert_eq!(verdicts(&two), [("x > 75 AND kind = 'c'", Drifted)], "{two:?}");
        assert_eq!(verdicts(&measured(&given(|_, _| true), &[], true)), [], "all rows are worse");
    }

    #[test]
    fn declared_slices_have_a_verdict_or_the_reason_why_not() {
        use Verdict::{Drifted, Inconclusive, Stable};
        let given = given(|_, kind| kind == "b");
        let declared = measured(&given, &["kind", "x <= 50 AND kind != 'b'", "x < 5", "y = 1"], true);
        let expected = [
            ("x <= 50 AND kind != 'b'", Stable),
            ("x < 5", Inconclusive),
            ("y = 1", Inconclusive),
            ("kind = 'a'", Stable),
            ("kind = 'b'", Drifted),
            ("kind = 'c'", Stable),
            ("kind = 'd'", Stable),
        ];
        let mut found = verdicts(&declared);
        found[3..].sort_by_key(|(name, _)| *name);
        assert_eq!(found, expected, "{declared:?}");
        assert_eq!(
            (declared[1].reason.as_str(), declared[2].reason.as_str()),
            ("too few labelled rows: 100, min_rows is 110", "y is no feature")
        );
        let many: Vec<String> = (0..99).map(|n| format!("x > {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).chain(["kind", "nothing"]).collect();
        let many = measured(&given, &many, false);
        let reasons: Vec<(&str, &str)> =
            many[99..].iter().map(|slice| (slice.slice.as_str(), slice.reason.as_str())).collect();
        assert_eq!(reasons, [("kind", "at most 100 slices are measured"), ("nothing", "nothing is no feature")]);
        let without = measured(&given, &["kind = 'b'"], false);
        assert_eq!(verdicts(&without), [("kind = 'b'", Inconclusive)]);
        assert!(without[0].reason.contains("0 of the sampled validation rows") && without[0].loss > 0.0, "{without:?}");
    }

    #[test]
    fn numbers_are_divided_at_limits_that_a_person_can_read() {
        let profile = ColumnProfile::of_numbers((0..1_000).map(|n| Some(f64::from(n) * 1.234_567)));
        let feature = FeatureProfile { name: "x".to_owned(), profile };
        let names: Vec<String> = terms(&feature, 10).iter().map(Condition::to_string).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.contains(&"x > 307 AND x <= 616".to_owned()), "{names:?}");
        let mostly_zero = ColumnProfile::of_numbers((0..1_000).map(|n| Some(f64::from(u32::from(n > 990)))));
        let feature = FeatureProfile { name: "x".to_owned(), profile: mostly_zero };
        let names: Vec<String> = terms(&feature, 10).iter().map(Condition::to_string).collect();
        assert_eq!(names, ["x <= 0", "x > 0"]);
    }
}
