/// Bins that the finite values are cut into, before ties.
const BINS: usize = 10;

/// A value with at least this share of the rows gets a bin of its own.
const ATOM_SHARE: f64 = 0.05;

/// The edges for ascending finite values, ascending and different: the deciles (inverted distribution function, type 1
/// of Hyndman and Fan 1996, so that each is a value that occurred), and below a decile that is an atom the next smaller
/// float, so that the bin between holds the atom alone. The smallest and the largest value are edges if they are atoms:
/// what lies beyond them is then a bin that training never saw.
pub(super) fn edges(sorted: &[f64]) -> Vec<f64> {
    let mut edges: Vec<f64> = Vec::with_capacity(2 * BINS);
    for tenth in 0..=BINS {
        let Some(&value) = sorted.get((tenth * sorted.len()).div_ceil(BINS).saturating_sub(1)) else { break };
        // One zero: -0.0 equals it, but has another neighbour and another text.
        let value = if value == 0.0 { 0.0 } else { value };
        let atom = is_atom(sorted, value);
        let extreme = tenth == 0 || tenth == BINS;
        if edges.last().is_some_and(|&last| last >= value) || (extreme && !atom) {
            continue;
        }
        let below = value.next_down();
        if atom && below.is_finite() && edges.last().is_none_or(|&last| last < below) {
            edges.push(below);
        }
        edges.push(value);
    }
    edges
}

fn is_atom(sorted: &[f64], value: f64) -> bool {
    let ties = sorted.partition_point(|&x| x <= value) - sorted.partition_point(|&x| x < value);
    ties as f64 >= ATOM_SHARE * sorted.len() as f64
}

/// The bin of a finite value.
pub(super) fn bin(edges: &[f64], value: f64) -> usize {
    edges.partition_point(|&edge| edge < value)
}

/// Mean and sample standard deviation of finite values, scaled by the largest so that no square overflows.
/// The deviation is absent with fewer than two values, or where it would exceed the largest float.
pub(super) fn moments(sorted: &[f64]) -> Option<(f64, Option<f64>)> {
    let scale = sorted.first()?.abs().max(sorted.last()?.abs());
    if scale == 0.0 {
        return Some((0.0, (sorted.len() > 1).then_some(0.0)));
    }
    let rows = sorted.len() as f64;
    let mean = sorted.iter().map(|x| x / scale).sum::<f64>() / rows;
    let squares: f64 = sorted.iter().map(|x| (x / scale - mean).powi(2)).sum();
    let std = (sorted.len() > 1).then(|| (squares / (rows - 1.0)).sqrt() * scale);
    // The mean lies between the smallest and the largest, though its last bit may not.
    let mean = (mean * scale).clamp(sorted[0], sorted[sorted.len() - 1]);
    Some((mean, std.filter(|std| std.is_finite())))
}
