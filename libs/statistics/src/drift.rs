//! Has a column moved away from what the model was trained on?
//!
//! [`compare`] answers with one of three verdicts. It asks two questions, and drift takes a yes to both:
//!
//! - is it real? Pearson's chi-square test of homogeneity ([`homogeneity`]) takes both the training rows and the window
//!   as samples, at the level `alpha / columns` (Bonferroni), so that a window of any number of
//!   unmoved columns raises any alarm at all with a chance of at most `alpha`;
//! - does it matter? The population stability index ([`psi`]), less what chance alone would make it, is above a
//!   margin, so that a large window does not alarm over a difference that no model feels.
//!
//! A no is only given where a yes was possible: if a shift of the margin's size would have been missed with a
//! chance above [`MISS_CHANCE`], the verdict is [`Verdict::Unknown`].
//!
//! Missing and non-finite values are bins of their own: a feature that stops arriving has drifted. Bins too
//! rare for the chi-square approximation are pooled ([`pool`]); where even together they are too few, an exact
//! test ([`rare_event`]) takes them, so that one value never seen in training neither alarms nor is lost, and many do.

mod exact;
mod homogeneity;
mod pool;
mod psi;

use serde::{Deserialize, Serialize};

pub use exact::rare_event;
pub use homogeneity::{Homogeneity, homogeneity, noncentrality};
pub use pool::{Bins, MIN_EXPECTED, Pooled, pool};
pub use psi::{expected_psi, psi, psi_of_shares};

use crate::{
    Error,
    error::check_share,
    profile::{ColumnProfile, Counts},
};

/// The chance with which a shift of the smallest detectable size goes unseen.
pub const MISS_CHANCE: f64 = 0.2;

/// How the verdict is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The least population stability index that matters, over what chance makes it. By old custom 0.1 is a moderate
    /// shift and 0.25 a large one.
    pub margin_psi: f64,
    /// Chance of any alarm in a window where nothing moved, over all columns together.
    pub alpha: f64,
    /// Columns that are looked at in the window.
    pub columns: usize,
    /// Fewer rows than this are always too few.
    pub min_rows: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { margin_psi: 0.1, alpha: 0.01, columns: 1, min_rows: 50 }
    }
}

/// The answer for one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A shift that matters would have been seen, and was not.
    Stable,
    /// A shift that is real and matters.
    Drifted,
    /// Too few rows to tell.
    Unknown,
}

/// One column of one window against its profile. No number is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The answer.
    pub verdict: Verdict,
    /// Population stability index over the pooled bins, in nats; 0 if the two samples have equal shares.
    pub psi: f64,
    /// What the index would be on average if nothing had moved.
    pub psi_by_chance: f64,
    /// Chance of a difference at least this large if nothing had moved, before Bonferroni.
    pub p_value: f64,
    /// The smallest index that this many rows would show, but for [`MISS_CHANCE`]; absent without rows on either side.
    pub minimum_detectable_psi: Option<f64>,
}

/// Compares a window's counts with the profile that they were counted over.
///
/// # Errors
/// Counts over other bins than the profile's; `alpha` outside (0, 1).
pub fn compare(profile: &ColumnProfile, window: &Counts, settings: &Settings) -> Result<Drift, Error> {
    let reference = profile.reference_counts();
    if reference.bins.len() != window.bins.len() {
        return Err(Error::Bins { profile: reference.bins.len(), counts: window.bins.len() });
    }
    check_share("alpha", settings.alpha)?;
    let made = match profile {
        ColumnProfile::Numeric { .. } => Bins::CutByReference,
        ColumnProfile::Categorical { .. } => Bins::Given,
    };
    Ok(compare_counts(&all_bins(&reference), &all_bins(window), made, settings))
}

fn all_bins(counts: &Counts) -> Vec<u64> {
    counts.bins.iter().copied().chain([counts.missing, counts.non_finite]).collect()
}

fn compare_counts(reference: &[u64], window: &[u64], made: Bins, settings: &Settings) -> Drift {
    let (reference_rows, window_rows) = (reference.iter().sum::<u64>(), window.iter().sum::<u64>());
    if reference_rows == 0 || window_rows == 0 {
        let verdict = Verdict::Unknown;
        return Drift { verdict, psi: 0.0, psi_by_chance: 0.0, p_value: 1.0, minimum_detectable_psi: None };
    }
    let pooled = pool(reference, window, made);
    let level = settings.alpha / settings.columns.max(1) as f64;
    let p_value = p_value(&pooled, reference_rows, window_rows);
    let (reference, window) = pooled.counts();
    let psi = psi(&reference, &window);
    let psi_by_chance = expected_psi(reference.len(), reference_rows, window_rows);
    let detectable = detectable_psi(reference.len(), level, reference_rows, window_rows);
    let drifted = p_value < level && psi - psi_by_chance > settings.margin_psi;
    let verdict = if window_rows < settings.min_rows {
        Verdict::Unknown
    } else if drifted {
        Verdict::Drifted
    } else if detectable > settings.margin_psi {
        Verdict::Unknown
    } else {
        Verdict::Stable
    };
    Drift { verdict, psi, psi_by_chance, p_value, minimum_detectable_psi: Some(detectable) }
}

/// The common bins by chi-square and the rare ones exactly; where both have a say, the smaller p-value, doubled.
fn p_value(pooled: &Pooled, reference_rows: u64, window_rows: u64) -> f64 {
    let (reference, window): (Vec<u64>, Vec<u64>) = pooled.common.iter().copied().unzip();
    let common = homogeneity(&reference, &window);
    if pooled.rare == (0, 0) {
        return common.p_value;
    }
    let rare = rare_event(pooled.rare.0, reference_rows, pooled.rare.1, window_rows);
    if common.freedom == 0 { rare } else { (2.0 * common.p_value.min(rare)).min(1.0) }
}

/// The index whose chi-square test of that many bins has the power promised.
fn detectable_psi(bins: usize, level: f64, reference_rows: u64, window_rows: u64) -> f64 {
    // A single bin leaves no freedom, yet one new value would open a second.
    let freedom = bins.saturating_sub(1).max(1);
    noncentrality(freedom, level, MISS_CHANCE) * (1.0 / reference_rows as f64 + 1.0 / window_rows as f64)
}
