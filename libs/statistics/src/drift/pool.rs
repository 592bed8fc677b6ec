/// The fewest rows that a bin must lead one to expect in the smaller sample for it to stand alone (Cochran 1954).
pub const MIN_EXPECTED: f64 = 5.0;

/// Pools rare bins: those in which fewer than [`MIN_EXPECTED`] rows would be expected in the smaller sample, were both
/// samples alike, become one bin, placed last. If that is still too rare, it is added to the rarest other.
/// Bins empty on both sides vanish. Both samples keep their sums.
///
/// Which bins are pooled depends on the sum of the two samples alone. The homogeneity test holds given those sums, so
/// pooling leaves its level as it was.
pub fn pool(reference: &[u64], window: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let (n, m) = (reference.iter().sum::<u64>() as f64, window.iter().sum::<u64>() as f64);
    let smaller_share = n.min(m) / (n + m);
    let rare = |&(r, c): &(u64, u64)| ((r + c) as f64) * smaller_share < MIN_EXPECTED;
    let pairs = reference.iter().copied().zip(window.iter().copied()).filter(|&(r, c)| r + c > 0);
    let (few, mut bins): (Vec<_>, Vec<_>) = pairs.partition(rare);
    if !few.is_empty() {
        let pooled = few.iter().fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        match bins.iter_mut().min_by_key(|pair| pair.0 + pair.1) {
            Some(rarest) if rare(&pooled) => *rarest = (rarest.0 + pooled.0, rarest.1 + pooled.1),
            _ => bins.push(pooled),
        }
    }
    bins.into_iter().unzip()
}
