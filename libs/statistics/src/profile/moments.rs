use serde::{Deserialize, Serialize};

/// Count, mean and sum of squared deviations of finite numbers, merged by the formula of Chan, Golub and LeVeque
/// (1983). The order of the numbers affects the last bits only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    rows: u64,
    /// `None` after a number whose square or sum overflows.
    sums: Option<Sums>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Without numbers.
    pub fn new() -> Self {
        Self { rows: 0, sums: Some(Sums::default()) }
    }

    /// Of finite numbers.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::new();
        }
        let rows = values.len() as f64;
        let mean = sum(values, |value| value) / rows;
        let squares = sum(values, |value| (value - mean) * (value - mean));
        Self { rows: values.len() as u64, sums: finite(mean, squares) }
    }

    /// Of one finite number, `rows` times.
    pub(super) fn of_rows(value: f64, rows: u64) -> Self {
        Self { rows, sums: Some(Sums { mean: if rows > 0 { value } else { 0.0 }, squares: 0.0 }) }
    }

    /// Adds the numbers of another part.
    pub fn merge(&mut self, other: &Self) {
        let (n, m) = (self.rows as f64, other.rows as f64);
        if self.rows == 0 {
            *self = *other;
        }
        if self.rows == 0 || n == 0.0 || m == 0.0 {
            return;
        }
        self.rows += other.rows;
        self.sums = self.sums.zip(other.sums).and_then(|(mine, theirs)| {
            let apart = theirs.mean - mine.mean;
            let share = m / (n + m);
            finite(mine.mean + apart * share, mine.squares + theirs.squares + apart * apart * n * share)
        });
    }

    /// The mean; `None` without numbers, or if they are too large.
    pub fn mean(&self) -> Option<f64> {
        self.sums.filter(|_| self.rows > 0).map(|sums| sums.mean)
    }

    /// The standard deviation with divisor `rows - ddof`; `None` with too few numbers, or if they are too large.
    pub fn std(&self, ddof: u64) -> Option<f64> {
        let freedom = self.rows.checked_sub(ddof).filter(|&freedom| freedom > 0)?;
        self.sums.map(|sums| (sums.squares / freedom as f64).sqrt())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the stored numbers are consistent.
    pub(super) fn are_sound(&self) -> bool {
        self.sums.is_none_or(|sums| sums.mean.is_finite() && sums.squares.is_finite() && sums.squares >= 0.0)
    }
}

impl Default for Moments {
    fn default() -> Self {
        Self::new()
    }
}

/// The sum of `part` over the values, in several independent sums, since each addition waits for the previous one.
fn sum(values: &[f64], part: impl Fn(f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += part(value));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&value| part(value)).sum::<f64>()
}

fn finite(mean: f64, squares: f64) -> Option<Sums> {
    (mean.is_finite() && squares.is_finite()).then_some(Sums { mean, squares })
}
