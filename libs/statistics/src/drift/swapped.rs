//! Detection of swapped columns.

use super::{ColumnDrift, Suspicion, Verdict, compare_column};
use crate::profile::ColumnProfile;

/// Drifted columns whose pairs are tested. It bounds the number of pairs.
const MAX_TRIED: usize = 40;

/// Adds a suspicion to the two columns of each pair of which either has the distribution that the other has in the reference.
/// `reference` and `current` give the profiles by name.
pub fn point_out_swapped<'a>(
    columns: &mut [ColumnDrift],
    reference: impl Fn(&str) -> Option<&'a ColumnProfile>,
    current: impl Fn(&str) -> Option<&'a ColumnProfile>,
    level: f64,
    margin: f64,
) {
    let drifted = columns.iter().filter(|column| column.verdict == Verdict::Drifted);
    let tried: Vec<(String, f64)> =
        drifted.map(|column| (column.name.clone(), column.effect)).take(MAX_TRIED).collect();
    // In few rows many distributions look alike: a difference as large as the shift must be detectable.
    let looks_like = |(now, shift): &(String, f64), then: &str| match (reference(then), current(now)) {
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
        column.reason.push_str(&format!(
            "; the distribution is that of {other:?} in the reference: the two columns may be swapped"
        ));
    }
}
