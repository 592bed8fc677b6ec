//! Columns that seem to have changed places.

use super::{ColumnDrift, Suspicion, Verdict, compare_column};
use crate::profile::Profile;

/// Drifted columns that are tried against each other; beyond, the pairs would be too many.
const MAX_TRIED: usize = 40;

/// Where of two drifted columns each now looks as the other did, says so in the reasons of both.
pub(super) fn point_out(columns: &mut [ColumnDrift], reference: &Profile, current: &Profile, level: f64, margin: f64) {
    let drifted = columns.iter().filter(|column| column.verdict == Verdict::Drifted);
    let tried: Vec<(String, f64)> =
        drifted.map(|column| (column.name.clone(), column.effect)).take(MAX_TRIED).collect();
    // In few rows much looks alike: a difference as large as the shift that is to be explained must have been visible.
    let looks_like = |(now, shift): &(String, f64), then: &str| match (reference.column(then), current.column(now)) {
        (Some(then), Some(now)) => {
            let found = compare_column("", then, now, level, margin);
            found.verdict != Verdict::Drifted
                && found.is_large_enough(*shift)
                && found.effect <= margin.max(shift / 10.0)
        }
        _ => false,
    };
    for (index, one) in tried.iter().enumerate() {
        for other in &tried[index + 1..] {
            if looks_like(one, &other.0) && looks_like(other, &one.0) {
                note(columns, &one.0, &other.0);
                note(columns, &other.0, &one.0);
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
