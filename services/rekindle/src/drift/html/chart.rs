//! Where the bars of a picture stand. The markup is in the templates, which escape what comes from the files.

use rekindle_statistics::drift::Sides;

use super::{
    figures::{counted, cut, number, percent},
    parts::{Part, Parts, Place},
};

/// Width of every picture; the page scales it.
pub(super) const WIDTH: f64 = 760.0;

/// A picture of one column on both sides.
pub(super) struct Chart {
    pub height: f64,
    /// Lines across, each at a percentage.
    pub grid: Vec<Tick>,
    /// Labels along the axis of numbers.
    pub ticks: Vec<Tick>,
    pub pairs: Vec<Pair>,
    /// Whether the bars lie, one pair below the other.
    pub lies: bool,
    /// Where the bars begin and end on the other axis: left and right, or top and bottom.
    pub from: f64,
    pub to: f64,
}

/// A label and its place on one axis.
pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

/// The bars of one part.
pub(super) struct Pair {
    pub label: String,
    /// The label where it fits beside the bars; empty where an axis tells.
    pub short: String,
    pub mark: Option<&'static str>,
    /// Whether it stands apart from the axis.
    pub apart: bool,
    /// Middle of the pair along the axis that the parts are arranged by.
    pub middle: f64,
    /// All the room it has.
    pub room: Bar,
    pub reference: Bar,
    pub current: Bar,
    /// Shares of the rows in words.
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

/// Draws the parts of a column whose sides have so many rows.
pub(super) fn draw(parts: &Parts, rows: Sides<u64>) -> Chart {
    let scale = Scale::over(parts.all(), rows);
    match parts {
        Parts::Numbers(parts) => upright(parts, &scale),
        Parts::Names(parts) => lying(parts, &scale),
    }
}

/// Shares from 0 to the first line above the largest.
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

    /// A length for a share, of the length that the whole scale has. What has rows is seen.
    fn length(&self, count: u64, side: u64, whole: f64) -> f64 {
        let length = share(count, side) / (self.step * self.steps as f64) * whole;
        if count > 0 { length.max(1.0) } else { 0.0 }
    }

    fn lines(&self, place: impl Fn(f64) -> f64) -> Vec<Tick> {
        let line = |index: usize| Tick {
            at: tenth(place(index as f64 / self.steps as f64)),
            label: format!("{} %", number(((100.0 * self.step * index as f64) * 1e6).round() / 1e6)),
        };
        (0..=self.steps).map(line).collect()
    }

    fn pair(&self, part: &Part) -> Pair {
        Pair {
            label: part.label.clone(),
            short: String::new(),
            mark: part.mark(),
            apart: !matches!(part.place, Place::Axis(..) | Place::Named),
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

/// Tenths are fine enough to draw by.
fn tenth(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// Where the bars of a histogram stand.
const TOP: f64 = 10.0;
const BOTTOM: f64 = 206.0;
const LEFT: f64 = 52.0;

/// Bars over an axis of numbers, and beside it those that have no place on it.
fn upright(parts: &[Part], scale: &Scale) -> Chart {
    let widths = Widths::of(parts);
    let mut x = LEFT;
    let mut pairs = Vec::with_capacity(parts.len());
    let mut ticks = Vec::new();
    let every = label_distance(parts, widths.on_axis);
    let mut index = 0;
    for (part, next) in parts.iter().zip(parts.iter().skip(1).map(Some).chain([None])) {
        let width = match part.place {
            Place::Axis(low, high) => {
                let last = !next.is_some_and(|next| matches!(next.place, Place::Axis(..)));
                ticks.extend(axis_labels((low, high), x, widths.on_axis, index % every == 0, last));
                index += 1;
                widths.on_axis
            }
            _ => widths.apart,
        };
        pairs.push(stand(scale, part, x, width));
        x += width;
    }
    let grid = scale.lines(|share| BOTTOM - share * (BOTTOM - TOP));
    Chart { height: 250.0, grid, ticks, pairs, lies: false, from: LEFT, to: tenth(x) }
}

/// Room for each pair along the axis.
struct Widths {
    on_axis: f64,
    apart: f64,
}

impl Widths {
    fn of(parts: &[Part]) -> Self {
        let on_axis = parts.iter().filter(|part| matches!(part.place, Place::Axis(..))).count();
        let apart = 84.0;
        let left = WIDTH - LEFT - 14.0 - apart * (parts.len() - on_axis) as f64;
        Self { on_axis: (left / on_axis.max(1) as f64).min(64.0), apart }
    }
}

/// A label at every so many bins, so that they do not run into each other.
fn label_distance(parts: &[Part], width: f64) -> usize {
    let widest = parts.iter().filter_map(|part| match part.place {
        Place::Axis(low, high) => Some(number(low).chars().count().max(number(high).chars().count())),
        _ => None,
    });
    let needed = widest.max().unwrap_or(1) as f64 * 7.0 + 14.0;
    (needed / width).ceil().max(1.0) as usize
}

/// A bin of one number is labelled in its middle, another at its lower end, and the last one at its upper end too.
fn axis_labels((low, high): (f64, f64), x: f64, width: f64, due: bool, last: bool) -> Vec<Tick> {
    let tick = |at: f64, value: f64| Tick { at: tenth(at), label: number(value) };
    match (low == high, due, last) {
        (true, true, _) => vec![tick(x + width / 2.0, low)],
        (false, true, false) => vec![tick(x, low)],
        (false, due, true) => {
            let room = width > number(low).chars().count() as f64 * 7.0 + 14.0;
            let lower = (due && room).then(|| tick(x, low));
            lower.into_iter().chain([tick(x + width, high)]).collect()
        }
        _ => Vec::new(),
    }
}

fn stand(scale: &Scale, part: &Part, x: f64, width: f64) -> Pair {
    let gap = if width > 12.0 { 2.0 } else { 0.5 };
    let bar_width = ((width - 2.0 * gap) / 2.0).min(24.0);
    let middle = x + width / 2.0;
    let bar = |x: f64, count, side| {
        let height = scale.length(count, side, BOTTOM - TOP);
        Bar { x: tenth(x), y: tenth(BOTTOM - height), width: tenth(bar_width), height: tenth(height) }
    };
    let pair = scale.pair(part);
    Pair {
        short: if pair.apart { cut(&part.label, 14) } else { String::new() },
        middle: tenth(middle),
        room: Bar { x: tenth(x), y: TOP, width: tenth(width), height: BOTTOM - TOP },
        reference: bar(middle - bar_width, part.reference, scale.rows.reference),
        current: bar(middle, part.current, scale.rows.current),
        ..pair
    }
}

/// Where lying bars begin and end, and the room of each pair.
const START: f64 = 232.0;
const END: f64 = 690.0;
const ROW: f64 = 36.0;

/// One pair of bars below the other, with their names before them.
fn lying(parts: &[Part], scale: &Scale) -> Chart {
    let pairs: Vec<Pair> =
        parts.iter().enumerate().map(|(index, part)| lie(scale, part, 8.0 + ROW * index as f64)).collect();
    let bottom = 8.0 + ROW * pairs.len() as f64;
    let grid = scale.lines(|share| START + share * (END - START));
    Chart { height: bottom + 24.0, grid, ticks: Vec::new(), pairs, lies: true, from: 4.0, to: bottom }
}

fn lie(scale: &Scale, part: &Part, y: f64) -> Pair {
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
