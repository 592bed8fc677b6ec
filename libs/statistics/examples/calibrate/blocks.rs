//! Streams whose rows depend on their time, without any other change, and with planted shifts.

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    blocks::{Blocks, Calendar, Counter, Variation},
    drift::{Blockwise, Settings, Verdict, compare_column, compare_column_in_blocks},
    profile::ColumnProfile,
};

/// Rows of a window, which is a week: one in half an hour.
const ROWS: u32 = 336;

/// Milliseconds from one row to the next.
const STEP: i64 = 1_800_000;

/// The length of a window, in milliseconds.
const WINDOW: i64 = STEP * 336;

/// 2013-01-03, a Thursday, on which weeks since 1970 begin.
const START: i64 = 1_357_171_200_000;

/// Columns of a stream, which share the budget.
pub(crate) const COLUMNS: usize = 5;

/// Windows after the reference.
pub(crate) const WINDOWS: usize = 30;

/// How the rows of a stream depend on their time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Dependence {
    /// Not at all.
    None,
    /// The correlation of a number with the one before.
    Rows(f64),
    /// Every week has its own mean; in standard deviations of the rows.
    Weeks(f64),
    /// Weekly means with this correlation from week to week, of half a standard deviation.
    CorrelatedWeeks(f64),
    /// Every week has its own deviation, by a factor with this logarithmic standard deviation.
    Scales(f64),
    /// A season of a day and one of a week.
    Seasons,
    /// Three categories, whose shares have their own logits in every week, with this standard deviation.
    Categories(f64),
}

impl Dependence {
    /// The standard deviation of the weekly means, in those of the rows; 1 where weeks do not have their own means.
    fn between(self) -> f64 {
        match self {
            Self::Rows(rho) => ((1.0 + rho) / (1.0 - rho) / f64::from(ROWS)).sqrt(),
            Self::Weeks(deviation) | Self::Categories(deviation) => deviation,
            Self::CorrelatedWeeks(_) => 0.5,
            Self::None | Self::Scales(_) | Self::Seasons => 1.0,
        }
    }
}

/// One column over many weeks.
struct Column {
    dependence: Dependence,
    rng: ChaCha8Rng,
    /// The number before, and the mean of the week before.
    before: f64,
    level: f64,
}

enum Week {
    Numbers(Vec<f64>),
    Texts(Vec<&'static str>),
}

impl Week {
    fn profile(&self) -> ColumnProfile {
        match self {
            Self::Numbers(numbers) => ColumnProfile::of_numbers(numbers.iter().copied().map(Some)),
            Self::Texts(texts) => ColumnProfile::of_texts(texts.iter().copied().map(Some)),
        }
    }

    fn count(&self, counter: &mut Counter, calendar: &Calendar, from: i64) {
        let mut block_of_next = (0..).map(|row| calendar.block_of(from + STEP * row).expect("a time of the reference"));
        let mut block = || block_of_next.next().expect("endless");
        match self {
            Self::Numbers(numbers) => {
                numbers.iter().for_each(|number| counter.add_number(block(), Some(*number)));
            }
            Self::Texts(texts) => {
                texts.iter().for_each(|text| counter.add_text(block(), Some(text)));
            }
        }
    }
}

fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    // Box and Muller (1958).
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

impl Column {
    fn new(dependence: Dependence, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (before, level) = (normal(&mut rng), normal(&mut rng));
        Self { dependence, rng, before, level }
    }

    /// The next week, with means that are `shift` higher.
    fn week(&mut self, shift: f64) -> Week {
        let own = normal(&mut self.rng);
        match self.dependence {
            Dependence::Rows(rho) => {
                let innovation = (1.0 - rho * rho).sqrt();
                let mut next = || {
                    self.before = rho * self.before + innovation * normal(&mut self.rng);
                    self.before + shift
                };
                Week::Numbers((0..ROWS).map(|_| next()).collect())
            }
            Dependence::Categories(deviation) => {
                let weights = [0.0, -0.5, -1.5].map(|logit: f64| (logit + deviation * normal(&mut self.rng)).exp());
                let weights = [weights[0] * shift.exp(), weights[1], weights[2]];
                let sum: f64 = weights.iter().sum();
                let mut draw = || match self.rng.random::<f64>() * sum {
                    at if at < weights[0] => "first",
                    at if at < weights[0] + weights[1] => "second",
                    _ => "third",
                };
                Week::Texts((0..ROWS).map(|_| draw()).collect())
            }
            Dependence::CorrelatedWeeks(rho) => {
                self.level = rho * self.level + (1.0 - rho * rho).sqrt() * own;
                self.numbers(0.5 * self.level + shift, 1.0)
            }
            Dependence::Weeks(deviation) => self.numbers(deviation * own + shift, 1.0),
            Dependence::Scales(deviation) => self.numbers(shift, (deviation * own).exp()),
            Dependence::None => self.numbers(shift, 1.0),
            Dependence::Seasons => {
                let Week::Numbers(numbers) = self.numbers(shift, 1.0) else { unreachable!("numbers") };
                let season = |row: usize, period: f64| (std::f64::consts::TAU * row as f64 / period).sin();
                let add = |(row, number)| number + season(row, 48.0) + season(row, f64::from(ROWS));
                Week::Numbers(numbers.into_iter().enumerate().map(add).collect())
            }
        }
    }

    fn numbers(&mut self, mean: f64, scale: f64) -> Week {
        Week::Numbers((0..ROWS).map(|_| mean + scale * normal(&mut self.rng)).collect())
    }

    /// The reference of `weeks` weeks.
    fn reference(&mut self, weeks: usize) -> (ColumnProfile, Option<Variation>) {
        let weeks: Vec<Week> = (0..weeks).map(|_| self.week(0.0)).collect();
        let mut profile = weeks[0].profile();
        weeks[1..].iter().for_each(|week| profile.merge(&week.profile()).expect("one kind"));
        let starts = || (0..).map(|week| START + WINDOW * week).zip(&weeks);
        let last = starts().last().map_or(START, |(start, _)| start + WINDOW - STEP);
        let calendar = Calendar::over((START, last), u64::from(ROWS) * weeks.len() as u64);
        let mut counter = Counter::new("column", &profile, &calendar).expect("few values");
        for (start, week) in starts() {
            week.count(&mut counter, &calendar, start);
        }
        let blocks = Blocks::new(calendar, vec![counter.finish()]).expect("one column");
        (profile, blocks.variations(WINDOW).remove("column"))
    }
}

/// What a stream raised.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Alarms {
    /// In any window of any column.
    pub in_blocks: bool,
    /// The same by the test of rows.
    pub of_rows: bool,
}

/// The alarms of a stream without a change after a reference of `weeks` weeks.
pub(crate) fn alarms(dependence: Dependence, weeks: usize, seed: u64, settings: &Settings) -> Alarms {
    let mut alarms = Alarms::default();
    for column in 0..COLUMNS as u64 {
        let mut column = Column::new(dependence, seed * COLUMNS as u64 + column);
        let found = verdicts(&mut column, weeks, WINDOWS, 0.0, settings);
        alarms.in_blocks |= found.iter().any(|(in_blocks, _)| *in_blocks == Verdict::Drifted);
        alarms.of_rows |= found.iter().any(|(_, of_rows)| *of_rows == Verdict::Drifted);
    }
    alarms
}

/// The window, counted from 1, in which a shift of the weekly means by `deviations` of their standard deviations is detected.
pub(crate) fn delay(
    dependence: Dependence,
    weeks: usize,
    deviations: f64,
    seed: u64,
    settings: &Settings,
) -> Option<usize> {
    let mut column = Column::new(dependence, seed);
    let shift = deviations * dependence.between();
    let found = verdicts(&mut column, weeks, WINDOWS, shift, settings);
    found.iter().position(|(in_blocks, _)| *in_blocks == Verdict::Drifted).map(|index| index + 1)
}

/// The verdicts on windows after a reference, beside its blocks and by rows alone.
fn verdicts(
    column: &mut Column,
    weeks: usize,
    windows: usize,
    shift: f64,
    settings: &Settings,
) -> Vec<(Verdict, Verdict)> {
    let (reference, variation) = column.reference(weeks);
    let (level, mut beyond_before) = (settings.level(COLUMNS), 0);
    (0..windows)
        .map(|_| {
            let window = column.week(shift).profile();
            let blocks = variation.as_ref().map(|variation| Blockwise { variation, beyond_before });
            let found = compare_column_in_blocks("", &reference, &window, blocks, level, settings.margin);
            beyond_before = found.blocks.map_or(0, |blocks| blocks.windows_beyond);
            (found.verdict, compare_column("", &reference, &window, level, settings.margin).verdict)
        })
        .collect()
}
