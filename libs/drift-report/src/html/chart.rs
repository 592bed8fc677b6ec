//! Coordinates of the bars of a chart. The markup is in the templates, which escape names and values from the data.

use rekindle_statistics::drift::Sides;

use super::parts::{Part, Parts, Position};
use crate::figures::{counted, cut, number, on_axis, percent};

/// Width of every chart; the page scales it.
pub(super) const WIDTH: f64 = 760.0;

/// A chart of one column on both sides.
pub(super) struct Chart {
    pub height: f64,
    /// Grid lines, each at a percentage.
    pub grid: Vec<Tick>,
    /// Labels along the value axis.
    pub ticks: Vec<Tick>,
    pub pairs: Vec<Pair>,
    /// Whether the bars are horizontal, one pair below the other.
    pub is_horizontal: bool,
    /// The extent of the bars along the value axis: left and right, or top and bottom.
    pub from: f64,
    pub to: f64,
}

/// A label and its position on one axis.
pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

/// The bars of one part.
pub(super) struct Pair {
    pub label: String,
    /// The label as shown beside the bars; empty where the value axis has labels.
    pub short: String,
    pub mark: Option<&'static str>,
    /// Whether it is drawn beside the value axis.
    pub off_axis: bool,
    /// The centre of the pair along the value axis.
    pub middle: f64,
    /// The area of the pair.
    pub room: Bar,
    pub reference: Bar,
    pub current: Bar,
    /// Shares and numbers of rows as text.
    pub shares: Sides<String>,
    pub rows: Sides<String>,
}

/// A rectangle.
#[derive(Default)]
pub(super) struct Bar {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Draws the parts of a column. `rows` are all rows of each side.
pub(super) fn draw(parts: &Parts, rows: Sides<u64>) -> Chart {
    let scale = Scale::over(parts.all(), rows);
    match parts {
        Parts::Numbers(parts) => vertical(parts, &scale),
        Parts::Names(parts) => horizontal(parts, &scale),
    }
}

/// A share axis from 0 to the first grid line above the largest share.
struct Scale {
    rows: Sides<u64>,
    step: f64,
    steps: usize,
}

impl Scale {
    fn over(parts: &[Part], rows: Sides<u64>) -> Self {
        let shares =
            parts.iter().map(|part| share(part.reference, rows.reference).max(share(part.current, rows.current)));
        let most = shares.fold(0.001, f64::max);
        let steps = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
        let step = steps.into_iter().find(|step| most / step <= 4.0).unwrap_or(0.25);
        Self { rows, step, steps: (most / step - 1e-9).ceil() as usize }
    }

    /// The length of a bar where the whole axis has length `whole`. A bar with rows is visible.
    fn length(&self, count: u64, side: u64, whole: f64) -> f64 {
        let length = share(count, side) / (self.step * self.steps as f64) * whole;
        if count > 0 { length.max(1.0) } else { 0.0 }
    }

    fn lines(&self, position: impl Fn(f64) -> f64) -> Vec<Tick> {
        let line = |index: usize| Tick {
            at: tenth(position(index as f64 / self.steps as f64)),
            label: format!("{} %", number(((100.0 * self.step * index as f64) * 1e6).round() / 1e6)),
        };
        (0..=self.steps).map(line).collect()
    }

    fn pair(&self, part: &Part) -> Pair {
        Pair {
            label: part.label.clone(),
            short: String::new(),
            mark: part.mark(),
            off_axis: !matches!(part.position, Position::Axis(..) | Position::Named | Position::AtLeast),
            middle: 0.0,
            room: Bar::default(),
            reference: Bar::default(),
            current: Bar::default(),
            shares: Sides {
                reference: percent(share(part.reference, self.rows.reference)),
                current: percent(share(part.current, self.rows.current)),
            },
            rows: Sides { reference: counted(part.reference, "row"), current: counted(part.current, "row") },
        }
    }
}

fn share(part: u64, rows: u64) -> f64 {
    part as f64 / rows.max(1) as f64
}

/// Rounds a coordinate to tenths, which keeps the page small.
fn tenth(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// The plot area of a histogram.
const TOP: f64 = 10.0;
const BOTTOM: f64 = 206.0;
const LEFT: f64 = 56.0;

/// Width of a part beside the axis, and the gap between it and the axis.
const OFF_AXIS: f64 = 80.0;
const GAP: f64 = 18.0;

/// Bars over a value axis, and beside it the parts without a position on it.
fn vertical(parts: &[Part], scale: &Scale) -> Chart {
    let axis = Axis::of(parts);
    let mut pairs: Vec<Pair> = Vec::with_capacity(parts.len());
    let mut ticks = Vec::new();
    let mut x = LEFT;
    for part in parts {
        let off_axis = !matches!(part.position, Position::Axis(..));
        x += if pairs.last().is_some_and(|before| before.off_axis != off_axis) { GAP } else { 0.0 };
        let width = if off_axis { OFF_AXIS } else { axis.width };
        ticks.extend(axis.labels(part, x));
        pairs.push(vertical_pair(scale, part, x, width));
        x += width;
    }
    let grid = scale.lines(|share| BOTTOM - share * (BOTTOM - TOP));
    Chart { height: 232.0, grid, ticks, pairs, is_horizontal: false, from: LEFT, to: tenth(x) }
}

/// The value axis: its bins, and which of their limits are labelled.
struct Axis {
    /// Width of each bin, as drawn.
    width: f64,
    /// Width of each bin, in the unit of the values.
    step: f64,
    /// Steps between two labels.
    every: i64,
    last: f64,
    bins: usize,
}

impl Axis {
    fn of(parts: &[Part]) -> Self {
        let limits: Vec<(f64, f64)> = parts.iter().filter_map(Part::limits).collect();
        let off_axis = (parts.len() - limits.len()) as f64;
        let gaps = if parts.first().is_some_and(|part| part.position == Position::Below) { 2.0 } else { 1.0 };
        let room = WIDTH - LEFT - 20.0 - off_axis * OFF_AXIS - gaps * GAP;
        let width = (room / limits.len().max(1) as f64).min(64.0);
        let step = match limits.as_slice() {
            [(low, _), (next, _), ..] => next - low,
            _ => 1.0,
        };
        let letters = limits.iter().map(|(low, high)| label((*low, *high), *low).max(label((*low, *high), *high)));
        let needed = letters.map(|label| label.chars().count()).max().unwrap_or(1) as f64 * 7.0 + 12.0;
        let last = limits.last().map_or(0.0, |limits| limits.1);
        Self { width, step, every: round_multiple(step, (needed / width).ceil() as i64), last, bins: limits.len() }
    }

    /// A bin of one number is labelled at its centre, any other at its lower limit, and the last one at its upper limit too.
    fn labels(&self, part: &Part, x: f64) -> Vec<Tick> {
        let Some((low, high)) = part.limits() else { return Vec::new() };
        let due = |value: f64| self.bins == 1 || (value / self.step).round() as i64 % self.every == 0;
        let tick = |at: f64, value: f64| Tick { at: tenth(at), label: label((low, high), value) };
        if low == high {
            return due(low).then(|| tick(x + self.width / 2.0, low)).into_iter().collect();
        }
        let upper = (high == self.last && due(high)).then(|| tick(x + self.width, high));
        due(low).then(|| tick(x, low)).into_iter().chain(upper).collect()
    }
}

/// A limit of a bin.
fn label((low, high): (f64, f64), value: f64) -> String {
    on_axis(value, high - low)
}

/// The smallest number of steps, at least `least`, whose length is 1, 2 or 5 times a power of ten.
fn round_multiple(step: f64, least: i64) -> i64 {
    let is_round = |multiple: &i64| {
        let value = step * *multiple as f64;
        let digits = value / 10_f64.powf(value.log10().floor());
        [1.0, 2.0, 5.0, 10.0].iter().any(|round| (digits - round).abs() < 1e-6)
    };
    let least = least.max(1);
    (least..=least.saturating_mul(10).min(1000)).find(is_round).unwrap_or(least)
}

fn vertical_pair(scale: &Scale, part: &Part, x: f64, width: f64) -> Pair {
    let gap = if width > 12.0 { 2.0 } else { 0.5 };
    let bar_width = ((width - 2.0 * gap) / 2.0).min(24.0);
    let middle = x + width / 2.0;
    let bar = |x: f64, count, side| {
        let height = scale.length(count, side, BOTTOM - TOP);
        Bar { x: tenth(x), y: tenth(BOTTOM - height), width: tenth(bar_width), height: tenth(height) }
    };
    let pair = scale.pair(part);
    Pair {
        short: if pair.off_axis { cut(&part.label, 15) } else { String::new() },
        middle: tenth(middle),
        room: Bar { x: tenth(x), y: TOP, width: tenth(width), height: BOTTOM - TOP },
        reference: bar(middle - bar_width, part.reference, scale.rows.reference),
        current: bar(middle, part.current, scale.rows.current),
        ..pair
    }
}

/// The extent of horizontal bars, and the height of each pair.
const START: f64 = 232.0;
const END: f64 = 690.0;
const ROW: f64 = 36.0;

/// One pair of bars below the other, with their names on the left.
fn horizontal(parts: &[Part], scale: &Scale) -> Chart {
    let pairs: Vec<Pair> =
        parts.iter().enumerate().map(|(index, part)| horizontal_pair(scale, part, 8.0 + ROW * index as f64)).collect();
    let bottom = 8.0 + ROW * pairs.len() as f64;
    let grid = scale.lines(|share| START + share * (END - START));
    Chart { height: bottom + 24.0, grid, ticks: Vec::new(), pairs, is_horizontal: true, from: 4.0, to: bottom }
}

fn horizontal_pair(scale: &Scale, part: &Part, y: f64) -> Pair {
    const THICK: f64 = 13.0;
    let bar =
        |y: f64, count, side| Bar { x: START, y, width: tenth(scale.length(count, side, END - START)), height: THICK };
    Pair {
        short: cut(&part.label, 28),
        middle: y + ROW / 2.0,
        room: Bar { x: 0.0, y, width: WIDTH, height: ROW },
        reference: bar(y + 4.0, part.reference, scale.rows.reference),
        current: bar(y + 4.0 + THICK + 1.0, part.current, scale.rows.current),
        ..scale.pair(part)
    }
}
