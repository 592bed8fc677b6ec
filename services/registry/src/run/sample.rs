//! A sample of the points of a metric that keeps what a chart of them shows: the extremes.

use rekindle_domain::run::Metric;

/// The first and the last point, and of each of several ranges of as many points the least and the greatest value.
#[derive(Debug)]
pub(super) struct Sample {
    points: u64,
    max_points: usize,
    ranges: u64,
    next: u64,
    /// Every point, while there are no more than may be kept.
    all: Option<Vec<Metric>>,
    first: Option<Metric>,
    last: Option<Metric>,
    /// The range that the last point was in, with its extremes in their order.
    range: u64,
    extremes: Vec<Metric>,
    kept: Vec<Metric>,
}

impl Sample {
    /// Of at most so many points, at most `max_points`, which is at least 4.
    pub(super) fn new(points: u64, max_points: usize) -> Self {
        let ranges = (max_points as u64 / 2).saturating_sub(1).max(1);
        Self {
            points: points.max(1),
            max_points,
            ranges,
            next: 0,
            all: Some(Vec::new()),
            first: None,
            last: None,
            range: 0,
            extremes: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Adds the next point, by step. Points beyond the expected number, which were logged in the meantime, are in the last range.
    pub(super) fn add(&mut self, point: Metric) {
        if let Some(all) = &mut self.all {
            all.push(point.clone());
            if all.len() > self.max_points {
                self.all = None;
            }
        }
        self.first.get_or_insert_with(|| point.clone());
        self.last = Some(point.clone());
        let range = u128::from(self.next) * u128::from(self.ranges) / u128::from(self.points);
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
                let (least, greatest) = if first.value < second.value { (first, second) } else { (second, first) };
                if point.value < least.value {
                    self.extremes = vec![greatest.clone(), point];
                } else if point.value > greatest.value {
                    self.extremes = vec![least.clone(), point];
                }
            }
            _ => unreachable!("a range has two extremes"),
        }
    }

    /// The points of the sample, by step.
    pub(super) fn finish(mut self) -> Vec<Metric> {
        if let Some(all) = self.all {
            return all;
        }
        self.kept.append(&mut self.extremes);
        let is_between = |point: &Metric| {
            let is = |end: &Option<Metric>| end.as_ref().is_some_and(|end| end.step == point.step);
            !is(&self.first) && !is(&self.last)
        };
        self.kept.retain(is_between);
        self.first.into_iter().chain(self.kept).chain(self.last).collect()
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
        assert_eq!(sample(&[1.0, 1.0, 3.0], 4), [(0, 1.0), (1, 1.0), (2, 3.0)]);
        assert_eq!(sample(&[], 4), []);
    }

    #[test]
    fn the_extremes_of_each_range_are_kept_in_order() {
        let values = [5.0, 1.0, 3.0, 9.0, 2.0, 4.0, 4.0, 4.0];
        assert_eq!(sample(&values, 6), [(0, 5.0), (1, 1.0), (3, 9.0), (4, 2.0), (5, 4.0), (7, 4.0)]);
        assert_eq!(sample(&values, 4), [(0, 5.0), (1, 1.0), (3, 9.0), (7, 4.0)]);
        assert_eq!(sample(&values, 8).len(), 8);
        let wave: Vec<f64> = (0..100_000).map(|step| f64::from(step).sin() * f64::from(step % 1000)).collect();
        let kept = sample(&wave, 1000);
        assert!(
            (900..=1000).contains(&kept.len()) && kept[0].0 == 0 && kept[kept.len() - 1].0 == 99_999,
            "{}",
            kept.len()
        );
        assert!(kept.is_sorted_by_key(|(step, _)| *step));
        let extreme = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((0.0_f64, 0.0_f64), |(least, greatest), value| (least.min(value), greatest.max(value)))
        };
        assert_eq!(extreme(&mut kept.iter().map(|(_, value)| *value)), extreme(&mut wave.iter().copied()));
    }
}
