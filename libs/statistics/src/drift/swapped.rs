//! Columns that seem to have changed places.

use super::{ColumnDrift, Suspicion, Verdict, compare_column};
use crate::profile::Profile;

/// Drifted columns that are tried against each other; beyond, the pairs would be too many.
const MAX_TRIED: usize = 40;

/// Where of two drifted columns each now looks as the other did, says so in the reasons of both.
pub(super) fn point_out(columns: &mut [ColumnDrift], reference: &Profile, current: &Profile, level: f64, margin: f64) {
    let drifted = |column: &&ColumnDrift| column.verdict == Verdict::Drifted;
    let names: Vec<String> = columns.iter().filter(drifted).map(|column| column.name.clone()).take(MAX_TRIED).collect();
    let looks_like = |now: &str, then: &str| match (reference.column(then), current.column(now)) {
        (Some(then), Some(now)) => compare_column("", then, now, level, margin).verdict == Verdict::Stable,
        _ => false,
    };
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            if looks_like(one, other) && looks_like(other, one) {
                note(columns, one, other);
                note(columns, other, one);
            }
        }
    }
}

fn note(columns: &mut [ColumnDrift], name: &str, other: &str) {
    if let Some(column) = columns.iter_mut().find(|column| column.name == name) {
        column.suspicion = Some(Suspicion::Swapped { with: other.to_owned() });
        column.reason.push_str(&format!("; it looks as {other:?} did before: the two may have changed places"));
    }
}
