//! The correlations of columns in each block of a reference against its other blocks: nothing has changed, by construction; and the same with the
//! values of one column given to other rows of their block, which changes no single column.

use arrow::{
    array::{ArrayRef, AsArray as _},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use rekindle_dataset::read_parquet;
use rekindle_statistics::{
    blocks::FixedBins,
    correlation::{Column, Compared, Correlations, MOST_VALUES, in_byte},
    drift::Settings,
    profile::ColumnProfile,
};
use rekindle_testkit::shared_data;

use super::{
    blocks::{InBlocks, OF_FLIGHTS},
    column, flights, most_with,
};

/// A table in blocks, each column with its bins.
struct Binned {
    blocks: InBlocks,
    columns: Vec<Column>,
}

impl Binned {
    fn of(blocks: InBlocks) -> Self {
        let binned = |(name, array): (&String, &ArrayRef)| {
            let profile = column(array);
            let bins = FixedBins::of(&profile)?;
            let values = match &profile {
                ColumnProfile::Categorical(values) => values
                    .top(MOST_VALUES)
                    .into_iter()
                    .map(|(value, _)| (value.clone(), bins.of_text(Some(&value))))
                    .collect(),
                _ => Vec::new(),
            };
            let rows = match array.as_string_opt::<i32>() {
                Some(texts) => texts.iter().map(|text| in_byte(bins.of_text(text))).collect(),
                None => {
                    let numbers = cast(array, &DataType::Float64).expect("numbers");
                    numbers.as_primitive::<Float64Type>().iter().map(|number| in_byte(bins.of_number(number))).collect()
                }
            };
            Some(Column { name: name.clone(), bins, values, rows })
        };
        let columns = blocks.names.iter().zip(&blocks.arrays).filter_map(binned).collect();
        Self { blocks, columns }
    }

    /// The correlations in all blocks but one.
    fn others(&self, block: usize) -> Correlations {
        let (from, until) = self.blocks.blocks[block];
        let without = |column: &Column| {
            let rows = [&column.rows[..from], &column.rows[until..]].concat();
            Column { rows, ..column.clone() }
        };
        let times = [&self.blocks.times[..from], &self.blocks.times[until..]].concat();
        Correlations::of(self.columns.iter().map(without).collect(), times.len(), Some(&times)).expect("enough rows")
    }

    /// A block beside the others. The rows of `moved` are those of the other half of the block.
    fn compared(&self, reference: &Correlations, block: usize, moved: Option<&str>) -> Compared {
        let (from, until) = self.blocks.blocks[block];
        let rows = reference.columns().map(|(name, _)| {
            let column = self.columns.iter().find(|column| column.name == name)?;
            let mut rows = column.rows[from..until].to_vec();
            if moved == Some(name) {
                let half = rows.len() / 2;
                rows.rotate_left(half);
            }
            Some(rows)
        });
        let settings = Settings::default();
        let level = settings.false_alarms / f64::from(settings.looks);
        reference.compare(&rows.collect::<Vec<_>>(), self.blocks.length, level).expect("a level")
    }

    /// Prints and checks in how many blocks a correlation differs from the others, and prints by which columns a wrong join is found.
    #[track_caller]
    fn hold_the_budget_and_find_wrong_joins(&self, expected: &[&str]) {
        let settings = Settings::default();
        let all = self.blocks.blocks.len();
        let references: Vec<Correlations> = (0..all).map(|block| self.others(block)).collect();
        let compared = |block: usize, moved| self.compared(&references[block], block, moved);
        let changed: Vec<Compared> =
            (0..all).map(|block| compared(block, None)).filter(|found| !found.changed.is_empty()).collect();
        let found: Vec<(&str, usize)> = self
            .columns
            .iter()
            .map(|column| {
                let is_found = |block: &usize| !compared(*block, Some(&column.name)).changed.is_empty();
                (column.name.as_str(), (0..all).filter(is_found).count())
            })
            .collect();
        let (name, pairs) = (self.blocks.name, compared(0, None).pairs);
        println!(
            "{name}, correlations of {pairs} pairs: {} of {all} blocks differ from the others {changed:?}; with the values of one column given to \
             other rows: {found:?}",
            changed.len()
        );
        let bound = most_with(all as u64, settings.false_alarms / f64::from(settings.looks));
        assert!(changed.len() as u64 <= bound, "{name}: {} of {all} blocks, at most {bound}", changed.len());
        for column in expected {
            let blocks = found.iter().find(|(name, _)| name == column).expect("a column").1;
            assert!(
                blocks * 10 >= all * 9,
                "{name}: {column} given to other rows is found in {blocks} of {all} blocks"
            );
        }
    }
}

#[test]
fn correlations_of_flights_are_the_same_in_each_week() {
    let blocks = InBlocks::of("flights", &flights(), 7, &OF_FLIGHTS);
    Binned::of(blocks).hold_the_budget_and_find_wrong_joins(&[]);
}

#[test]
fn correlations_of_bike_rentals_are_the_same_in_each_month_or_skipped() {
    let Some(bytes) = shared_data("bike_hourly.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    let blocks = InBlocks::of("bike", &table, 28, &["cnt", "casual", "registered"]);
    Binned::of(blocks).hold_the_budget_and_find_wrong_joins(&[]);
}

#[test]
fn correlations_of_taxi_trips_are_the_same_in_each_month_or_skipped() {
    let Some(bytes) = shared_data("chicago_taxi_tips.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    let blocks = InBlocks::of("taxi", &table, 30, &["trip_id", "tips", "big_tip"]);
    Binned::of(blocks).hold_the_budget_and_find_wrong_joins(&[]);
}
