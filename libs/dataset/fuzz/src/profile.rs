//! Checks of any bytes loaded as a profile: loading, comparing, merging and storing do not panic, reports contain no NaN, and a stored
//! profile loads. Included by the fuzz target and by the test that replays its seeds.

#[path = "numbers.rs"]
mod numbers;

use numbers::has_numbers_only;
use rekindle_statistics::{
    drift::{ColumnDrift, Settings, Verdict, compare},
    profile::{Column, ColumnProfile, Profile, Timestamp},
};

/// Loads a profile, compares it with itself and with a fixed profile, merges it, and stores it.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(profile) = Profile::from_bytes(bytes) else { return };
    let again = Profile::from_bytes(&profile.to_bytes()).expect("a stored profile loads");
    assert_eq!(again, profile, "storing and loading change nothing");
    let itself = compared(&profile, &again);
    assert!(itself.iter().all(|column| column.verdict != Verdict::Drifted && column.psi == 0.0), "{itself:?}");
    let fixed = fixed();
    compared(&fixed, &profile);
    compared(&profile, &fixed);
    merged(&profile, &profile);
    merged(&profile, &fixed);
    merged(&fixed, &profile);
}

/// A merge is refused, or gives a profile of the rows of both that can be compared.
fn merged(one: &Profile, other: &Profile) {
    let mut both = one.clone();
    if both.merge(other).is_ok() {
        assert_eq!(both.rows, one.rows + other.rows);
        compared(one, &both);
    }
}

fn compared(reference: &Profile, current: &Profile) -> Vec<ColumnDrift> {
    let report = compare(reference, current, &Settings::default()).expect("the settings are valid");
    report.columns.iter().for_each(has_numbers_only);
    report.columns
}

/// One column of each kind, with the names used in the seeds.
pub(crate) fn fixed() -> Profile {
    let numbers = (0..1000_u32).map(|i| (i % 10 > 0).then(|| f64::from(i * 7919 % 1009) - 300.5));
    let texts = (0..1000_usize).map(|i| (i % 7 > 0).then_some(["red", "green", "blue"][i % 3]));
    let flags = (0..1000).map(|i| (i % 5 > 0).then_some(i % 2 == 0));
    let mut time = Timestamp::new();
    (0..1000).for_each(|i| time.add((i % 11 > 0).then_some(1_356_998_400_000 + i * 60_000)));
    let columns = [
        ("number", ColumnProfile::of_numbers(numbers)),
        ("text", ColumnProfile::of_texts(texts)),
        ("flag", ColumnProfile::of_flags(flags)),
        ("time", ColumnProfile::Timestamp(time)),
    ];
    let columns = columns.map(|(name, profile)| Column { name: name.to_owned(), profile });
    Profile::new(1000, columns.into())
}
