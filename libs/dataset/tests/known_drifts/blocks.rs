//! Each block of a reference against its other blocks: nothing has changed, by construction; and changes planted in the same blocks.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, StringArray},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use rekindle_dataset::{Table, read_parquet};
use rekindle_statistics::{
    blocks::{Blocks, Calendar, Counter, Variations},
    drift::{BlockCause, Blockwise, ColumnDrift, Settings, Verdict, compare_column, compare_column_in_blocks},
    profile::ColumnProfile,
};

use rekindle_testkit::shared_data;

use super::{column, flights, most_with};

const DAY: i64 = 86_400_000;

/// A table in complete blocks of one length.
pub(super) struct InBlocks {
    pub(super) name: &'static str,
    pub(super) length: i64,
    pub(super) times: Vec<i64>,
    pub(super) names: Vec<String>,
    pub(super) arrays: Vec<ArrayRef>,
    /// First row and one past the last, of complete blocks with at least a hundred rows.
    pub(super) blocks: Vec<(usize, usize)>,
}

impl InBlocks {
    pub(super) fn of(name: &'static str, table: &Table, days: i64, ignored: &[&str]) -> Self {
        let length = days * DAY;
        let times = table.times("timestamp").expect("every row has a time").to_vec();
        let ends: Vec<usize> = (1..times.len())
            .filter(|&row| times[row].div_euclid(length) != times[row - 1].div_euclid(length))
            .collect();
        // The first and the last block need not be complete.
        let blocks =
            ends.windows(2).map(|pair| (pair[0], pair[1])).filter(|(from, until)| until - from >= 100).collect();
        let compared = |name: &&str| *name != "timestamp" && !ignored.contains(name);
        let names: Vec<String> = table.schema.names().filter(compared).map(str::to_owned).collect();
        let arrays = names.iter().map(|name| table.batch.column_by_name(name).expect("a column").clone()).collect();
        Self { name, length, times, names, arrays, blocks }
    }

    fn settings(&self) -> Settings {
        Settings { margin: 0.2, ..Settings::default() }
    }

    fn level(&self) -> f64 {
        self.settings().level(self.names.len())
    }

    fn profile(&self, array: &ArrayRef, block: usize) -> ColumnProfile {
        let (from, until) = self.blocks[block];
        column(&array.slice(from, until - from))
    }

    /// The profile and the variation of the other blocks.
    fn others(&self, index: usize, left_out: impl Fn(usize) -> bool) -> (ColumnProfile, Variations) {
        let (array, kept) = (&self.arrays[index], (0..self.blocks.len()).filter(|&block| !left_out(block)));
        let rows: Vec<usize> = kept.clone().flat_map(|block| self.blocks[block].0..self.blocks[block].1).collect();
        let profile = kept.map(|block| self.profile(array, block)).reduce(|mut all, one| {
            all.merge(&one).expect("one kind");
            all
        });
        let profile = profile.expect("blocks");
        let calendar = Calendar::over((self.times[rows[0]], self.times[rows[rows.len() - 1]]), rows.len() as u64);
        let counted = Counter::new(&self.names[index], &profile, &calendar).map(|mut counter| {
            let texts = array.as_string_opt::<i32>();
            let numbers = texts.is_none().then(|| cast(array, &DataType::Float64).expect("numbers"));
            for row in rows {
                let block = calendar.block_of(self.times[row]).expect("a time of the rows");
                match (texts, &numbers) {
                    (Some(texts), _) => counter.add_text(block, texts.is_valid(row).then(|| texts.value(row))),
                    (None, Some(numbers)) => {
                        let numbers = numbers.as_primitive::<Float64Type>();
                        counter.add_number(block, numbers.is_valid(row).then(|| numbers.value(row)));
                    }
                    (None, None) => {}
                }
            }
            counter.finish()
        });
        (profile, Blocks::new(calendar, counted.into_iter().collect()).expect("one column").variations(self.length))
    }

    fn compared(
        &self,
        index: usize,
        reference: &(ColumnProfile, Variations),
        window: &ColumnProfile,
        before: u32,
    ) -> ColumnDrift {
        let blocks =
            reference.1.get(&self.names[index]).map(|variation| Blockwise { variation, beyond_before: before });
        compare_column_in_blocks(&self.names[index], &reference.0, window, blocks, self.level(), self.settings().margin)
    }

    /// Prints and checks how many blocks have drifted from the others.
    #[track_caller]
    fn hold_the_budget(&self) {
        let (mut in_blocks, mut of_rows) = (vec![Vec::new(); self.blocks.len()], vec![false; self.blocks.len()]);
        for (index, array) in self.arrays.iter().enumerate() {
            for block in 0..self.blocks.len() {
                let (reference, window) = (self.others(index, |other| other == block), self.profile(array, block));
                let found = self.compared(index, &reference, &window, 0);
                if found.verdict == Verdict::Drifted {
                    in_blocks[block].push(format!("{}: {}", found.name, found.reason));
                }
                let rows = compare_column("", &reference.0, &window, self.level(), self.settings().margin);
                of_rows[block] |= rows.verdict == Verdict::Drifted;
            }
        }
        let drifted: Vec<&String> = in_blocks.iter().flatten().collect();
        let (count, all) =
            (in_blocks.iter().filter(|found| !found.is_empty()).count() as u64, self.blocks.len() as u64);
        let (name, days, of_rows) = (self.name, self.length / DAY, of_rows.iter().filter(|drifted| **drifted).count());
        println!(
            "{name}, blocks of {days} days against the others: {count} of {all} drifted, by the test of rows {of_rows}: {drifted:?}"
        );
        let settings = self.settings();
        let bound = most_with(all, settings.false_alarms / f64::from(settings.looks));
        assert!(count <= bound, "{name}: {count} of {all} blocks, at most {bound} expected: {drifted:?}");
    }

    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|column| column == name).expect("a column of the file")
    }

    /// The last quarter of the blocks, changed, against the others: in how many windows, and in which first, a column has drifted.
    fn planted(&self, column_name: &str, change: impl Fn(&ArrayRef) -> ArrayRef) -> Vec<ColumnDrift> {
        let (index, first) = (self.index(column_name), self.blocks.len() * 3 / 4);
        let (changed, reference) = (change(&self.arrays[index]), self.others(index, |block| block >= first));
        let mut before = 0;
        (first..self.blocks.len())
            .map(|block| {
                let found = self.compared(index, &reference, &self.profile(&changed, block), before);
                before = found.blocks.map_or(0, |blocks| blocks.windows_beyond);
                found
            })
            .collect()
    }
}

/// The positions of the drifted windows, counted from 1.
fn drifted(windows: &[ColumnDrift]) -> Vec<usize> {
    let drifted = windows.iter().enumerate().filter(|(_, found)| found.verdict == Verdict::Drifted);
    drifted.map(|(index, _)| index + 1).collect()
}

fn numbers(array: &ArrayRef, change: impl Fn(f64) -> f64) -> ArrayRef {
    let numbers = cast(array, &DataType::Float64).expect("numbers");
    Arc::new(numbers.as_primitive::<Float64Type>().iter().map(|value| value.map(&change)).collect::<Float64Array>())
}

pub(super) const OF_FLIGHTS: [&str; 4] = ["flight_id", "flight_no", "arr_delay", "late"];

#[test]
fn no_week_of_flights_drifts_from_the_others() {
    InBlocks::of("flights", &flights(), 7, &OF_FLIGHTS).hold_the_budget();
}

#[test]
fn no_block_of_bike_rentals_drifts_from_the_others_or_skipped() {
    let Some(bytes) = shared_data("bike_hourly.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    for days in [7, 28] {
        InBlocks::of("bike", &table, days, &["cnt", "casual", "registered"]).hold_the_budget();
    }
}

#[test]
fn no_month_of_taxi_trips_drifts_from_the_others_or_skipped() {
    let Some(bytes) = shared_data("chicago_taxi_tips.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    InBlocks::of("taxi", &table, 30, &["trip_id", "tips", "big_tip"]).hold_the_budget();
}

#[test]
fn changes_planted_in_weeks_of_flights_are_found() {
    let flights = InBlocks::of("flights", &flights(), 7, &OF_FLIGHTS);
    let weeks = flights.blocks.len() - flights.blocks.len() * 3 / 4;
    for name in ["humid", "wind_speed", "distance", "plane_seats"] {
        let unit = flights.planted(name, |array| numbers(array, |value| value * 1000.0));
        println!("{name} in another unit: drifted in {:?} of {weeks} weeks: {}", drifted(&unit), unit[0].reason);
        assert_eq!(drifted(&unit).first(), Some(&1), "{name}: {}", unit[0].reason);
    }
    let lost = |array: &ArrayRef| -> ArrayRef {
        let texts = array.as_string::<i32>();
        Arc::new(
            texts.iter().map(|text| text.map(|text| if text == "EWR" { "JFK" } else { text })).collect::<StringArray>(),
        )
    };
    let origin = flights.planted("origin", lost);
    println!("origin without its most frequent value: {:?} of {weeks}: {}", drifted(&origin), origin[0].reason);
    assert_eq!(drifted(&origin).first(), Some(&1), "{}", origin[0].reason);
}

/// The share of columns of the flights in which a shift of the weekly means, by so many of their standard deviations, is found.
#[test]
fn the_power_for_shifts_of_weekly_means_grows_with_the_shift() {
    let flights = InBlocks::of("flights", &flights(), 7, &OF_FLIGHTS);
    let is_number = |index: &usize| flights.arrays[*index].as_string_opt::<i32>().is_none();
    let columns: Vec<usize> = (0..flights.names.len()).filter(is_number).collect();
    let mut found = Vec::new();
    for deviations in [0.0, 1.0, 3.0, 10.0] {
        let shifted = columns.iter().filter(|&&index| {
            let array = cast(&flights.arrays[index], &DataType::Float64).expect("numbers");
            let array = array.as_primitive::<Float64Type>();
            let mean = |&(from, until): &(usize, usize)| {
                let values: Vec<f64> =
                    (from..until).filter(|row| array.is_valid(*row)).map(|row| array.value(row)).collect();
                values.iter().sum::<f64>() / values.len().max(1) as f64
            };
            let means: Vec<f64> = flights.blocks.iter().map(mean).collect();
            let all = means.iter().sum::<f64>() / means.len() as f64;
            let deviation = (means.iter().map(|mean| (mean - all).powi(2)).sum::<f64>() / means.len() as f64).sqrt();
            let windows =
                flights.planted(&flights.names[index], |array| numbers(array, |value| value + deviations * deviation));
            !drifted(&windows).is_empty()
        });
        found.push(shifted.count());
    }
    println!(
        "shifts of 0, 1, 3 and 10 deviations of the weekly means are found in {found:?} of {} columns",
        columns.len()
    );
    assert!(found.is_sorted() && found[3] * 2 > columns.len(), "{found:?}");
}

/// January to April, and each week from May on: without a retraining, the weather of the summer is reported a few times, as a season.
#[test]
fn the_summer_of_the_flights_is_reported_a_few_times_as_a_season() {
    let flights = InBlocks::of("flights", &flights(), 7, &OF_FLIGHTS);
    let may = 1_367_366_400_000;
    let first = flights.blocks.iter().position(|(from, _)| flights.times[*from] >= may).expect("a week of May");
    let weeks = flights.blocks.len() - first;
    let mut alarms = vec![Vec::new(); weeks];
    for (index, array) in flights.arrays.iter().enumerate() {
        let reference = flights.others(index, |block| block >= first);
        let mut before = 0;
        for (week, alarms) in alarms.iter_mut().enumerate() {
            let found = flights.compared(index, &reference, &flights.profile(array, first + week), before);
            before = found.blocks.map_or(0, |blocks| blocks.windows_beyond);
            if found.verdict == Verdict::Drifted {
                let cause = found.blocks.and_then(|blocks| blocks.cause).expect("a drifted column has a cause");
                alarms.push((found.name, cause, found.reason));
            }
        }
    }
    let drifted: Vec<_> = alarms.iter().enumerate().filter(|(_, found)| !found.is_empty()).collect();
    println!("{} of {weeks} weeks drifted: {drifted:#?}", drifted.len());
    assert!((1..=6).contains(&drifted.len()), "{drifted:#?}");
    let of_temperature = alarms.iter().flatten().find(|(name, ..)| name == "temp").expect("the summer is warm");
    assert_eq!(of_temperature.1, BlockCause::UnseenSeason);
}
