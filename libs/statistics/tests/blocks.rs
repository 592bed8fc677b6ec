//! Blocks of time: how they are built, stored and merged, and the verdict beside them.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    blocks::{Blocks, Calendar, Counter, MAX_BLOCKS},
    drift::{
        BlockCause, Blockwise, ColumnDrift, Settings, Suspicion, Verdict, compare, compare_column,
        compare_column_in_blocks, compare_in_blocks,
    },
    profile::{Column, ColumnProfile, Profile},
};

const HOUR: i64 = 3_600_000;
const WEEK: i64 = 7 * 24 * HOUR;

/// A Thursday, on which weeks since 1970 begin.
const START: i64 = 2235 * WEEK;

const LEVEL: f64 = 1e-4;
const MARGIN: f64 = 0.1;

/// One number per hour, `weeks` weeks; each week has the mean that `mean` gives.
fn hours(weeks: i64, seed: u64, mean: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    (0..weeks * 168).map(|hour| (START + hour * HOUR, mean(hour / 168) + normal())).collect()
}

fn profile(rows: &[(i64, f64)]) -> ColumnProfile {
    ColumnProfile::of_numbers(rows.iter().map(|(_, number)| Some(*number)))
}

fn blocks(rows: &[(i64, f64)]) -> Blocks {
    let calendar = Calendar::over((rows[0].0, rows[rows.len() - 1].0), rows.len() as u64);
    let mut counter = Counter::new("x", &profile(rows), &calendar).expect("numbers have bins");
    for (time, number) in rows {
        counter.add_number(calendar.block_of(*time).expect("a time of the rows"), Some(*number));
    }
    Blocks::new(calendar, vec![counter.finish()]).expect("one column")
}

fn compared(reference: &[(i64, f64)], window: &ColumnProfile, beyond_before: u32) -> ColumnDrift {
    let variations = blocks(reference).variations(WEEK);
    let blocks = Blockwise { variation: &variations["x"], beyond_before };
    compare_column_in_blocks("x", &profile(reference), window, Some(blocks), LEVEL, MARGIN)
}

/// Weeks whose means are far apart, in no order.
fn scattered(week: i64) -> f64 {
    ((week * 7919) % 13) as f64 / 13.0 * 4.0
}

#[test]
fn a_window_like_one_of_the_weeks_is_stable_and_one_far_beyond_has_drifted() {
    let reference = hours(26, 1, scattered);
    let like_the_highest = profile(&hours(1, 2, |_| 3.7));
    let by_rows = compare_column("x", &profile(&reference), &like_the_highest, LEVEL, MARGIN);
    assert_eq!(by_rows.verdict, Verdict::Drifted, "{}", by_rows.reason);
    let stable = compared(&reference, &like_the_highest, 0);
    assert_eq!(stable.verdict, Verdict::Stable, "{}", stable.reason);
    assert!(stable.reason.contains("26 blocks of 7 days"), "{}", stable.reason);
    assert_eq!((stable.p_value, stable.effect), (by_rows.p_value, by_rows.effect), "both figures are there");

    let far = compared(&reference, &profile(&hours(1, 3, |_| 400.0)), 0);
    let test = far.blocks.expect("blocks");
    assert!(test.effect > test.largest_effect && test.windows_beyond == 1, "{test:?}");
    assert_ne!(far.verdict, Verdict::Stable, "{}", far.reason);
}

#[test]
fn a_change_of_unit_in_a_column_that_hardly_varies_has_drifted_at_once() {
    let reference = hours(26, 4, |week| 50.0 + week as f64 / 26.0 * 0.3);
    let metres: Vec<(i64, f64)> = hours(1, 5, |_| 50.3).into_iter().map(|(time, x)| (time, x * 1000.0)).collect();
    let found = compared(&reference, &profile(&metres), 0);
    assert_eq!(found.verdict, Verdict::Drifted, "{}", found.reason);
    assert!(matches!(found.suspicion, Some(Suspicion::UnitChange { .. })), "{found:?}");
    assert_eq!(found.blocks.and_then(|blocks| blocks.cause), Some(BlockCause::BeyondReference));
}

#[test]
fn a_trend_that_goes_on_is_reported_once_it_has_lasted_and_again_when_it_has_lasted_twice_as_long() {
    let trend = |week: i64| week as f64 * 0.25;
    let reference = hours(16, 6, trend);
    let (mut before, mut drifted) = (0, Vec::new());
    for week in 16..46 {
        let window = profile(&hours(1, 100 + week as u64, |_| trend(week)));
        let found = compared(&reference, &window, before);
        let test = found.blocks.expect("blocks");
        before = test.windows_beyond;
        match found.verdict {
            Verdict::Drifted => {
                assert_eq!(test.cause, Some(BlockCause::UnseenSeason), "{}", found.reason);
                drifted.push(before);
            }
            other => assert_eq!((other, test.cause), (Verdict::Inconclusive, None), "{}", found.reason),
        }
    }
    let first = drifted[0];
    assert!(drifted.len() >= 3 && drifted.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{drifted:?}");
    // 1 / C(16 + k, k) at half of the level: 1 / 20349 at 5, 1 / 4845 at 4.
    assert_eq!(first, 5, "{drifted:?}");
}

#[test]
fn few_weeks_make_a_difference_inconclusive_rather_than_drifted() {
    let weeks = |count| hours(count, 7, scattered);
    let window = profile(&hours(1, 8, |_| 9.0));
    let few = compared(&weeks(4), &window, 0);
    assert_eq!(few.verdict, Verdict::Inconclusive, "{}", few.reason);
    assert!(blocks(&weeks(1)).variations(WEEK * 52).is_empty() || few.blocks.is_some());
}

#[test]
fn blocks_are_merged_to_the_length_of_the_window_and_their_number_is_bounded() {
    let reference = hours(52, 9, scattered);
    let stored = blocks(&reference);
    assert!(stored.calendar().blocks() <= MAX_BLOCKS, "{:?}", stored.calendar());
    for (window, length, fewest) in [(WEEK, 6 * 24 * HOUR, 59), (2 * WEEK, WEEK * 2, 25), (HOUR, 48 * HOUR, 180)] {
        let variation = &stored.variations(window)["x"];
        assert_eq!(variation.length, length, "{window}");
        assert!(variation.blocks >= fewest, "{window}: {}", variation.blocks);
    }
    // Without rows or with one block there is nothing to compare with.
    let one = hours(1, 10, |_| 0.0);
    assert!(blocks(&one[..10]).variations(WEEK).is_empty());
}

#[test]
fn stored_blocks_read_back_and_damaged_ones_are_refused() {
    let stored = blocks(&hours(20, 11, scattered));
    let text = serde_json::to_string(&stored).expect("JSON");
    assert_eq!(serde_json::from_str::<Blocks>(&text).expect("they read back"), stored);
    for (from, to) in [
        ("\"format_version\":1", "\"format_version\":9"),
        ("\"length\":", "\"length\":-"),
        ("\"counts\":[", "\"counts\":[1,"),
        ("\"counts\":[", "\"counts\":[18446744073709551615,"),
    ] {
        let damaged = text.replacen(from, to, 1);
        assert_ne!(damaged, text);
        assert!(serde_json::from_str::<Blocks>(&damaged).is_err(), "{from} as {to}");
    }
}

#[test]
fn columns_without_blocks_are_compared_by_rows_and_an_absent_column_has_drifted() {
    let reference = hours(26, 12, scattered);
    let of = |rows: &[(i64, f64)], names: &[&str]| {
        let columns = names.iter().map(|name| Column { name: (*name).to_owned(), profile: profile(rows) });
        Profile::new(rows.len() as u64, columns.collect())
    };
    let (both, window) = (of(&reference, &["x", "y"]), hours(1, 13, |_| 3.7));
    let settings = Settings { margin: MARGIN, ..Settings::default() };
    let variations = blocks(&reference).variations(WEEK);
    let found = compare_in_blocks(&both, &of(&window, &["x", "y"]), &variations, &settings).expect("compares");
    let verdicts: Vec<_> = found.columns.iter().map(|column| (column.verdict, column.blocks.is_some())).collect();
    assert_eq!(verdicts, [(Verdict::Stable, true), (Verdict::Drifted, false)]);
    let absent = compare_in_blocks(&both, &of(&window, &["y"]), &variations, &settings).expect("compares");
    assert_eq!(
        (absent.columns[0].verdict, absent.columns[0].reason.as_str()),
        (Verdict::Drifted, "the column is absent")
    );
    let by_rows = compare(&both, &of(&window, &["x", "y"]), &settings).expect("compares");
    assert!(by_rows.columns.iter().all(|column| column.verdict == Verdict::Drifted && column.blocks.is_none()));
}

#[test]
fn values_are_counted_by_value_and_a_lost_one_is_found() {
    let names = ["north", "south", "east"];
    let rows: Vec<(i64, &str)> =
        (0..26 * 168).map(|hour| (START + hour * HOUR, names[(hour * 7 % 3) as usize])).collect();
    let reference = ColumnProfile::of_texts(rows.iter().map(|(_, name)| Some(*name)));
    let calendar = Calendar::over((rows[0].0, rows[rows.len() - 1].0), rows.len() as u64);
    let mut counter = Counter::new("name", &reference, &calendar).expect("few values");
    rows.iter().for_each(|(time, name)| counter.add_text(calendar.block_of(*time).expect("in span"), Some(name)));
    let variations = Blocks::new(calendar, vec![counter.finish()]).expect("one column").variations(WEEK);
    let compared = |names: &[&str]| {
        let window = ColumnProfile::of_texts((0..1_680).map(|row| Some(names[row % names.len()])));
        let blocks = Blockwise { variation: &variations["name"], beyond_before: 0 };
        compare_column_in_blocks("name", &reference, &window, Some(blocks), LEVEL, MARGIN)
    };
    assert_eq!(compared(&names).verdict, Verdict::Stable);
    for changed in [&["north", "south"][..], &["north", "south", "east", "west"]] {
        let found = compared(changed);
        assert_eq!(found.verdict, Verdict::Drifted, "{changed:?}: {}", found.reason);
    }
}
