//! A sample of the points of a metric that keeps what a chart of them shows: the extremes.

use rekindle_domain::run::Metric;

/// Of each of several ranges of equally many points, the least and the greatest value.
#[derive(Debug)]
pub(super) struct Sample {
    points: u64,
    ranges: u64,
    next: u64,
    /// The range that the last point was in, with its extremes in their order.
    range: u64,
    extremes: Vec<Metric>,
    kept: Vec<Metric>,
}

impl Sample {
    /// Of so many points, at most `max_points`, which is at least 2.
    pub(super) fn new(points: u64, max_points: usize) -> Self {
        let all = points <= max_points as u64;
        let ranges = if all { points.max(1) } else { max_points as u64 / 2 };
        Self { points, ranges, next: 0, range: 0, extremes: Vec::new(), kept: Vec::new() }
    }

    /// Adds the next point, by step. Points beyond the expected number, which were logged in the meantime, are in the last range.
    pub(super) fn add(&mut self, point: Metric) {
        let range = u128::from(self.next) * u128::from(self.ranges) / u128::from(self.points.max(1));
        let range = u64::try_from(range).unwrap_or(u64::MAX).min(self.ranges - 1);
        self.next += 1;
        if range != self.range {
            self.kept.append(&mut self.extremes);
            self.range = range;
        }
        match self.extremes.as_mut_slice() {
            [] => self.extremes.push(point),
            [only] if point.value == only.value => {}
            [_] => self.extremes.push(point),
            [first, second] => {
                // A new extreme replaces the old one, and comes last.
                let least = first.value.min(second.value);
                if point.value < least {
                    let greatest = if first.value < second.value { second.clone() } else { first.clone() };
                    self.extremes = vec![greatest, point];
                } else if point.value > first.value.max(second.value) {
                    let least = if first.value < second.value { first.clone() } else { second.clone() };
                    self.extremes = vec![least, point];
                }
            }
            _ => unreachable!("a range has two extremes"),
        }
    }

    /// The points of the sample, by step.
    pub(super) fn finish(mut self) -> Vec<Metric> {
        self.kept.append(&mut self.extremes);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64], max_points: usize) -> Vec<(i64, f64)> {
        let mut sample = Sample::new(values.len() as u64, max_points);
        for (step, &value) in (0..).zip(values) {
            sample.add(Metric { name: "loss".into(), value, step, time: None });
        }
        sample.finish().into_iter().map(|point| (point.step, point.value)).collect()
    }

    #[test]
    fn few_points_are_all_kept() {
        assert_eq!(sample(&[1.0, 1.0, 3.0], 3), [(0, 1.0), (1, 1.0), (2, 3.0)]);
        assert_eq!(sample(&[], 2), []);
    }

    #[test]
    fn the_extremes_of_each_range_are_kept_in_order() {
        assert_eq!(sample(&[5.0, 1.0, 3.0, 9.0, 2.0, 4.0, 4.0, 4.0], 4), [(1, 1.0), (3, 9.0), (4, 2.0), (5, 4.0)]);
        assert_eq!(sample(&[1.0, 2.0, 0.0, 3.0], 2), [(2, 0.0), (3, 3.0)]);
        let wave: Vec<f64> = (0..100_000).map(|step| f64::from(step).sin() * f64::from(step % 1000)).collect();
        let kept = sample(&wave, 1000);
        assert!((900..=1000).contains(&kept.len()), "{}", kept.len());
        assert!(kept.is_sorted_by_key(|(step, _)| *step));
        let extreme = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((0.0_f64, 0.0_f64), |(least, greatest), value| (least.min(value), greatest.max(value)))
        };
        assert_eq!(extreme(&mut kept.iter().map(|(_, value)| *value)), extreme(&mut wave.iter().copied()));
    }
}
