/// The fewest rows that a bin must lead one to expect in the smaller sample for the chi-square approximation to take
/// it. A little under the customary five (Cochran 1954), so that deciles stand alone from fifty rows on.
pub const MIN_EXPECTED: f64 = 4.0;

/// How the bins came about, which says by what they may be called rare without favouring either sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bins {
    /// Cut so that the reference has given counts in them (deciles). Those counts are no chance outcome, so they
    /// decide; the sum would give the window's count away, and bins in which it is low by chance would be pooled.
    CutByReference,
    /// Given beforehand (categories). Both counts are chance, and their sum decides: given the sums, the
    /// homogeneity test keeps its level. The reference alone would pool bins in which it is low by chance.
    Given,
}

/// Bins of two samples, apart by whether the chi-square approximation holds for them. Bins empty on both sides are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooled {
    /// Reference and window counts of the bins that stand alone, and of the rare ones together if that is enough.
    pub common: Vec<(u64, u64)>,
    /// The rare bins together where they are still too few; their test has to be exact.
    pub rare: (u64, u64),
}

/// Pools the bins in which fewer than [`MIN_EXPECTED`] rows are expected in the smaller sample. Sums are kept.
pub fn pool(reference: &[u64], window: &[u64], made: Bins) -> Pooled {
    let (n, m) = (reference.iter().sum::<u64>() as f64, window.iter().sum::<u64>() as f64);
    let is_rare = |&(r, c): &(u64, u64)| {
        let expected = match made {
            Bins::CutByReference => r as f64 * (m / n).min(1.0),
            Bins::Given => (r + c) as f64 * n.min(m) / (n + m),
        };
        expected < MIN_EXPECTED
    };
    let pairs = reference.iter().copied().zip(window.iter().copied()).filter(|&(r, c)| r + c > 0);
    let (few, mut common): (Vec<_>, Vec<_>) = pairs.partition(is_rare);
    let mut rare = few.iter().fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    if !few.is_empty() && !is_rare(&rare) {
        common.push(std::mem::take(&mut rare));
    }
    Pooled { common, rare }
}

impl Pooled {
    /// Reference and window counts of all bins, the rare one last if it has rows.
    pub fn counts(&self) -> (Vec<u64>, Vec<u64>) {
        let rare = Some(self.rare).filter(|rare| *rare != (0, 0));
        self.common.iter().copied().chain(rare).unzip()
    }
}
