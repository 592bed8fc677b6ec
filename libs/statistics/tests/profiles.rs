//! Properties of profiles for all inputs: merging, storage, and stated errors.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

mod draws;
#[path = "../../dataset/fuzz/src/profile.rs"]
mod stored;

use std::collections::HashMap;

use draws::{number, rows, table};
use proptest::{collection::vec, prelude::*};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    drift::{Settings, compare, compare_column},
    profile::{CATEGORIES, Categorical, ColumnProfile, Moments, Numeric, Profile},
    sketch::{Distinct, Frequent, PrefixCounts},
};

/// Distributes the rows over parts, profiles each, and merges random pairs until one is left.
fn merged<R, P>(rows: &[R], seed: u64, profile: impl Fn(&[&R]) -> P, merge: impl Fn(&mut P, &P)) -> P {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut parts: Vec<Vec<&R>> = (0..rng.random_range(1..9)).map(|_| Vec::new()).collect();
    for row in rows {
        let part = rng.random_range(0..parts.len());
        parts[part].push(row);
    }
    let mut profiles: Vec<P> = parts.iter().map(|part| profile(part)).collect();
    while profiles.len() > 1 {
        let one = profiles.swap_remove(rng.random_range(0..profiles.len()));
        let into = rng.random_range(0..profiles.len());
        merge(&mut profiles[into], &one);
    }
    profiles.remove(0)
}

fn numeric<'a>(values: impl IntoIterator<Item = &'a Option<f64>>, buckets: usize) -> Numeric {
    let mut numeric = Numeric::with_buckets(buckets);
    values.into_iter().for_each(|value| numeric.add(*value));
    numeric
}

fn categorical<'a>(values: impl IntoIterator<Item = &'a String>) -> Categorical {
    let mut categorical = Categorical::new();
    values.into_iter().for_each(|value| categorical.add(Some(value), 1));
    categorical
}

/// Checks equal counts, and equal moments up to rounding.
fn assert_same_numeric(one: &Numeric, other: &Numeric) {
    assert_eq!(one.values(), other.values());
    assert_eq!(one.range(), other.range());
    assert_eq!((one.finite(), one.missing(), one.non_finite()), (other.finite(), other.missing(), other.non_finite()));
    assert_eq!((one.is_exact(), one.rank_error()), (other.is_exact(), other.rank_error()));
    let (min, max) = one.range().unwrap_or_default();
    let size = min.abs().max(max.abs());
    if size < 1e100 {
        assert_same_moments(one.moments(), other.moments(), size);
    }
}

fn assert_same_moments(one: &Moments, other: &Moments, size: f64) {
    let near = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * size + f64::MIN_POSITIVE,
        (one, other) => one == other,
    };
    assert!(near(one.mean(), other.mean()) && near(one.std(1), other.std(1)), "{one:?} {other:?}");
}

fn assert_same_categorical(one: &Categorical, other: &Categorical) {
    assert_eq!((one.is_exact(), one.missing(), one.distinct()), (other.is_exact(), other.missing(), other.distinct()));
    if one.is_exact() {
        assert_eq!(one, other);
    }
    if let (Some(one), Some(other)) = (one.lengths(), other.lengths()) {
        assert_same_numeric(one, other);
    }
    let profile = |categorical: &Categorical| ColumnProfile::Categorical(categorical.clone());
    let groups = compare_column("x", &profile(one), &profile(other), 0.001, 0.1).bins;
    assert!(groups.iter().all(|group| group.reference == group.current), "{groups:?}");
}

fn assert_same(one: &Profile, other: &Profile) {
    assert_eq!((one.rows, one.columns.len()), (other.rows, other.columns.len()));
    for (one, other) in one.columns.iter().zip(&other.columns) {
        assert_eq!(one.name, other.name);
        match (&one.profile, &other.profile) {
            (ColumnProfile::Numeric(one), ColumnProfile::Numeric(other)) => assert_same_numeric(one, other),
            (ColumnProfile::Categorical(one), ColumnProfile::Categorical(other)) => assert_same_categorical(one, other),
            (one, other) => assert_eq!(one, other),
        }
    }
}

/// Checks a quantile by the shares of values below it and up to it.
fn assert_rank(values: &[f64], profile: &Numeric, q: f64) {
    let value = profile.quantile(q).unwrap();
    let share = |is: &dyn Fn(&&f64) -> bool| values.iter().filter(is).count() as f64 / values.len() as f64;
    let (below, up_to) = (share(&|other| **other < value), share(&|other| **other <= value));
    let error = profile.rank_error() + 1e-12;
    assert!(
        below - error <= q && q <= up_to + error,
        "{q}: {value} has the ranks {below} to {up_to}, give or take {error}"
    );
}

proptest! {
    #[test]
    fn parts_merge_into_the_whole_in_any_order(rows in rows(), seed in any::<u64>()) {
        let part = |rows: &[&draws::Row]| table(&rows.iter().map(|row| (*row).clone()).collect::<Vec<_>>());
        let merged = merged(&rows, seed, part, |one, other| one.merge(other).unwrap());
        assert_same(&merged, &table(&rows));
    }

    #[test]
    fn parts_with_more_numbers_than_buckets_merge_in_any_order(
        values in vec(number(), 0..600), seed in any::<u64>(), buckets in 2_usize..200
    ) {
        let part = |part: &[&Option<f64>]| numeric(part.iter().copied(), buckets);
        assert_same_numeric(&merged(&values, seed, part, Numeric::merge), &numeric(&values, buckets));
    }

    #[test]
    fn values_added_at_once_count_as_values_added_one_by_one(values in vec(number(), 0..600), buckets in 2_usize..200) {
        let present: Vec<f64> = values.iter().copied().flatten().collect();
        let mut at_once = Numeric::with_buckets(buckets);
        at_once.add_all(&present);
        at_once.add_missing((values.len() - present.len()) as u64);
        assert_same_numeric(&at_once, &numeric(&values, buckets));
    }

    #[test]
    fn prefix_counts_keep_all_rows_within_their_capacity(
        keys in vec(prop_oneof![any::<u64>(), 0..2000_u64, Just(u64::MAX)], 0..500), capacity in 0_usize..50
    ) {
        let mut counts = PrefixCounts::new(capacity);
        keys.iter().for_each(|key| counts.add(*key, 1));
        prop_assert!(counts.len() <= capacity.max(2) && counts.rows() == keys.len() as u64);
        let (shift, capacity) = (counts.shift(), capacity.max(2));
        let prefixes = |shift: u32| keys.iter().map(|key| key >> shift).collect::<std::collections::BTreeSet<_>>().len();
        prop_assert!(shift == 0 || prefixes(shift - 1) > capacity, "no bit is dropped in vain");
        for (prefix, rows) in counts.at_shift(shift) {
            prop_assert_eq!(rows, keys.iter().filter(|key| **key >> shift == prefix).count() as u64);
        }
    }

    #[test]
    fn a_stored_profile_gives_the_same_comparison(rows in rows(), others in rows()) {
        let (profile, current) = (table(&rows), table(&others));
        let stored = Profile::from_bytes(&profile.to_bytes()).unwrap();
        prop_assert_eq!(&stored, &profile);
        prop_assert_eq!(stored.to_bytes(), profile.to_bytes());
        let settings = Settings::default();
        prop_assert_eq!(compare(&stored, &current, &settings).unwrap(), compare(&profile, &current, &settings).unwrap());
        stored::check(&profile.to_bytes());
    }

    #[test]
    fn rank_errors_are_within_the_stated_bound(
        values in vec(prop_oneof![-1e3..1e3, (-20_i32..20).prop_map(f64::from), Just(5e-324), Just(-1e300)], 1..500),
        buckets in 2_usize..300,
        q in 0.0..=1.0
    ) {
        let profile = numeric(&values.iter().copied().map(Some).collect::<Vec<_>>(), buckets);
        [0.0, q, 0.5, 1.0].into_iter().for_each(|q| assert_rank(&values, &profile, q));
        if profile.is_exact() {
            let smallest = values.iter().copied().fold(f64::MAX, f64::min);
            prop_assert_eq!((profile.rank_error(), profile.quantile(0.0)), (0.0, Some(smallest)));
        }
    }

    #[test]
    fn mutated_bytes_are_an_error_or_a_valid_profile(
        rows in rows(), at in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4), cut in any::<Option<u16>>()
    ) {
        let mut bytes = table(&rows).to_bytes();
        for (index, byte) in at {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, usize::from));
        stored::check(&bytes);
    }
}

fn names(distinct: usize, rows: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Skewed, so that some values are frequent.
    (0..rows).map(|_| format!("{:x}", (rng.random::<f64>().powi(3) * distinct as f64) as u64 * 0x9e37_79b9)).collect()
}

#[test]
fn parts_with_grouped_categories_merge_in_any_order() {
    for seed in 0..8 {
        // Few values everywhere, few in the parts but many in the whole, and many everywhere.
        let distinct = CATEGORIES / 2 + seed as usize * 3000;
        let values = names(distinct, 4 * distinct, seed);
        let whole = categorical(&values);
        assert_eq!(whole.is_exact(), seed < 1, "{:?}", whole.distinct());
        let merged = merged(&values, seed, |part| categorical(part.iter().copied()), Categorical::merge);
        assert_same_categorical(&merged, &whole);
        let profile = Profile::new(
            values.len() as u64,
            vec![rekindle_statistics::profile::Column {
                name: "text".to_owned(),
                profile: ColumnProfile::Categorical(merged),
            }],
        );
        stored::check(&profile.to_bytes());
    }
}

#[test]
fn parts_of_full_size_merge_in_any_order() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<Option<f64>> = (0..60_000).map(|_| Some(rng.random::<f64>().powi(7) * 1e6 - 10.0)).collect();
    let of = |values: &[&Option<f64>]| match ColumnProfile::of_numbers(values.iter().map(|value| **value)) {
        ColumnProfile::Numeric(numeric) => numeric,
        other => panic!("{other:?}"),
    };
    let whole = of(&values.iter().collect::<Vec<_>>());
    assert!(!whole.is_exact());
    (0..3).for_each(|seed| assert_same_numeric(&merged(&values, seed, of, Numeric::merge), &whole));
}

#[test]
fn the_number_of_distinct_keys_is_within_its_bounds() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut misses = 0;
    for keys in [0, 1, 7, 300, 1000, 5000, 20_000, 200_000] {
        for _ in 0..20 {
            let (mut distinct, mut halves) = (Distinct::new(), [Distinct::new(), Distinct::new()]);
            for index in 0..keys {
                let key = rng.random();
                distinct.add(key);
                distinct.add(key);
                halves[index % 2].add(key);
            }
            let (low, high) = distinct.bounds();
            let estimate = distinct.estimate();
            assert!(low <= estimate && estimate <= high, "{low} {estimate} {high}");
            misses += usize::from(!(low..=high).contains(&(keys as f64)));
            let [mut one, other] = halves;
            one.merge(&other);
            assert_eq!((one.estimate(), one.bounds()), (estimate, (low, high)), "of {keys} keys");
        }
    }
    assert!(misses <= 1, "{misses} of 160, at 99.7 %");
}

#[test]
fn frequent_texts_have_errors_within_the_stated_bound() {
    for seed in 0..5 {
        let values = names(20_000, 100_000, seed);
        let mut counts: HashMap<&str, u64> = HashMap::new();
        let mut frequent = Frequent::new();
        for value in &values {
            *counts.entry(value).or_default() += 1;
            frequent.add(value, 1);
        }
        let error = frequent.max_error();
        assert_eq!(frequent.rows(), 100_000);
        assert!(error as f64 <= 3.5 / 1024.0 * 100_000.0, "{error}");
        let top = frequent.top(usize::MAX);
        assert!(
            !top.is_empty() && top.iter().all(|(text, rows)| (*rows..=rows + error).contains(&counts[text.as_str()]))
        );
        let listed = |text: &str| top.iter().any(|(name, _)| name == text);
        assert!(counts.iter().all(|(text, rows)| *rows <= 2 * error || listed(text)), "none is missed");
    }
}
