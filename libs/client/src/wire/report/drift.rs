//! Columns of a report, and what else the rows of its window show.

use rekindle_domain::{
    report::{
        BlockTest, ColumnDrift, Dependence, DriftCause, ExampleRow, Impact, Onset, PairChange, RepeatedRows, Volume,
        VolumeSeason,
    },
    validation::Violations,
};
use rekindle_proto::monitor as wire;

use super::{interval_from_wire, interval_to_wire, verdict_from_wire, verdict_to_wire};
use crate::wire::{
    field::{each, optional_time, parse},
    time,
};

/// The impact of a column as a message.
pub fn impact_to_wire(impact: &Impact) -> wire::Impact {
    let Impact { importance, score_change, loss_change } = *impact;
    wire::Impact { importance, score_change, loss_change }
}

pub(super) fn impact_from_wire(given: wire::Impact) -> Impact {
    let wire::Impact { importance, score_change, loss_change } = given;
    Impact { importance, score_change, loss_change }
}

/// Repeated rows as a message.
pub fn repeated_to_wire(repeated: RepeatedRows) -> wire::RepeatedRows {
    let RepeatedRows { rows, share, reference_share } = repeated;
    wire::RepeatedRows { rows, share, reference_share }
}

/// The repeated rows that a message holds.
pub fn repeated_from_wire(given: wire::RepeatedRows) -> RepeatedRows {
    let wire::RepeatedRows { rows, share, reference_share } = given;
    RepeatedRows { rows, share, reference_share }
}

pub(super) fn column_to_wire(column: &ColumnDrift) -> wire::FeatureDrift {
    wire::FeatureDrift {
        name: column.name.clone(),
        verdict: verdict_to_wire(column.verdict).into(),
        psi: column.psi,
        p_value: column.p_value,
        minimum_detectable_psi: column.minimum_detectable_psi,
        cause_share: column.cause_share,
        missing_reference: column.missing_reference,
        missing_current: column.missing_current,
        reason: column.reason.clone(),
        blocks: column.blocks.as_ref().map(blocks_to_wire),
        cause: cause_to_wire(column.cause).into(),
        impact: column.impact.as_ref().map(impact_to_wire),
        since: column.since.map(time::to_wire),
        examples: examples_to_wire(column),
        onset: onset_to_wire(column.onset).into(),
    }
}

/// How a change began, as its enumeration.
pub fn onset_to_wire(onset: Option<Onset>) -> wire::Onset {
    match onset {
        None => wire::Onset::Unspecified,
        Some(Onset::Abrupt) => wire::Onset::Abrupt,
        Some(Onset::Gradual) => wire::Onset::Gradual,
    }
}

pub(super) fn onset_from_wire(given: i32) -> Option<Onset> {
    match wire::Onset::try_from(given).unwrap_or_default() {
        wire::Onset::Unspecified => None,
        wire::Onset::Abrupt => Some(Onset::Abrupt),
        wire::Onset::Gradual => Some(Onset::Gradual),
    }
}

/// The example rows of a column as messages.
pub fn examples_to_wire(column: &ColumnDrift) -> Vec<wire::ExampleRow> {
    let example =
        |example: &ExampleRow| wire::ExampleRow { prediction_id: example.prediction.to_string(), row: example.row };
    column.examples.iter().map(example).collect()
}

pub(super) fn example_from_wire(given: wire::ExampleRow) -> Result<ExampleRow, Violations> {
    Ok(ExampleRow { prediction: parse("prediction_id", &given.prediction_id)?, row: given.row })
}

pub(super) fn blocks_to_wire(test: &BlockTest) -> wire::BlockTest {
    wire::BlockTest {
        length: Some(time::span_to_wire(test.length)),
        blocks: test.blocks,
        effective_blocks: test.effective_blocks,
        autocorrelation: test.autocorrelation,
        effect: test.effect,
        largest_effect: test.largest_effect,
        p_value: test.p_value,
        windows_beyond: test.windows_beyond,
    }
}

/// A cause as its enumeration.
pub fn cause_to_wire(cause: Option<DriftCause>) -> wire::DriftCause {
    match cause {
        None => wire::DriftCause::Unspecified,
        Some(DriftCause::BeyondReference) => wire::DriftCause::BeyondReference,
        Some(DriftCause::UnseenSeason) => wire::DriftCause::UnseenSeason,
        Some(DriftCause::DataFault) => wire::DriftCause::DataFault,
        Some(DriftCause::NewCategory) => wire::DriftCause::NewCategory,
    }
}

/// The cause of an enumeration; one of a later release is unknown.
pub fn cause_from_wire(given: i32) -> Option<DriftCause> {
    match wire::DriftCause::try_from(given).unwrap_or_default() {
        wire::DriftCause::Unspecified => None,
        wire::DriftCause::BeyondReference => Some(DriftCause::BeyondReference),
        wire::DriftCause::UnseenSeason => Some(DriftCause::UnseenSeason),
        wire::DriftCause::DataFault => Some(DriftCause::DataFault),
        wire::DriftCause::NewCategory => Some(DriftCause::NewCategory),
    }
}

pub(super) fn blocks_from_wire(given: wire::BlockTest) -> BlockTest {
    BlockTest {
        length: given.length.and_then(time::span_from_wire).unwrap_or_default(),
        blocks: given.blocks,
        effective_blocks: given.effective_blocks,
        autocorrelation: given.autocorrelation,
        effect: given.effect,
        largest_effect: given.largest_effect,
        p_value: given.p_value,
        windows_beyond: given.windows_beyond,
    }
}

pub(super) fn column_from_wire(given: wire::FeatureDrift) -> Result<ColumnDrift, Violations> {
    Ok(ColumnDrift {
        verdict: verdict_from_wire("verdict", given.verdict)?,
        name: given.name,
        reason: given.reason,
        psi: given.psi,
        p_value: given.p_value,
        minimum_detectable_psi: given.minimum_detectable_psi,
        cause_share: given.cause_share,
        missing_reference: given.missing_reference,
        missing_current: given.missing_current,
        blocks: given.blocks.map(blocks_from_wire),
        cause: cause_from_wire(given.cause),
        impact: given.impact.map(impact_from_wire),
        examples: each("examples", given.examples, example_from_wire)?,
        onset: onset_from_wire(given.onset),
        since: optional_time("since", given.since)?,
    })
}

/// A volume as a message.
pub fn volume_to_wire(volume: Volume) -> wire::Volume {
    let season = match volume.season {
        VolumeSeason::None => wire::VolumeSeason::None,
        VolumeSeason::HourOfDay => wire::VolumeSeason::HourOfDay,
        VolumeSeason::HourOfWeek => wire::VolumeSeason::HourOfWeek,
    };
    wire::Volume {
        rows_per_hour: volume.rows_per_hour,
        expected: Some(interval_to_wire(volume.expected)),
        windows: volume.windows,
        season: season.into(),
    }
}

pub(super) fn dependence_to_wire(dependence: &Dependence) -> wire::Dependence {
    let pair = |pair: &PairChange| {
        let [first, second] = pair.features.clone();
        let PairChange { correlation, reference, expected, .. } = *pair;
        wire::PairChange { first, second, correlation, reference, expected: Some(interval_to_wire(expected)) }
    };
    wire::Dependence { pairs: dependence.pairs, changed: dependence.changed.iter().map(pair).collect() }
}

pub(super) fn dependence_from_wire(given: wire::Dependence) -> Dependence {
    let pair = |pair: wire::PairChange| PairChange {
        features: [pair.first, pair.second],
        correlation: pair.correlation,
        reference: pair.reference,
        expected: interval_from_wire(pair.expected.unwrap_or_default()),
    };
    Dependence { pairs: given.pairs, changed: given.changed.into_iter().map(pair).collect() }
}

pub(super) fn volume_from_wire(given: wire::Volume) -> Volume {
    let season = match given.season() {
        wire::VolumeSeason::Unspecified | wire::VolumeSeason::None => VolumeSeason::None,
        wire::VolumeSeason::HourOfDay => VolumeSeason::HourOfDay,
        wire::VolumeSeason::HourOfWeek => VolumeSeason::HourOfWeek,
    };
    Volume {
        rows_per_hour: given.rows_per_hour,
        expected: interval_from_wire(given.expected.unwrap_or_default()),
        windows: given.windows,
        season,
    }
}
