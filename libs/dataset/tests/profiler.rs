//! The profile of a scan does not depend on the file format, and counts every value.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
        RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
    },
    datatypes::Int32Type,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use rekindle_dataset::{Profiler, Scan, ScanBatch, ScanColumn, ScanOptions, read_csv, write_parquet};
use rekindle_domain::ColumnKind;
use rekindle_statistics::profile::{ColumnProfile, Numeric, Profile};

fn profile_of(bytes: Bytes, options: &ScanOptions) -> Profile {
    let scan = Scan::of_bytes(bytes, options).unwrap();
    let mut profiler = Profiler::new(scan.columns());
    scan.for_each(|batch| profiler.add(&batch.unwrap()));
    profiler.finish()
}

fn expecting(kinds: &[(&str, ColumnKind)]) -> ScanOptions {
    let kinds: BTreeMap<String, ColumnKind> = kinds.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect();
    ScanOptions { expected: Some(kinds), ..ScanOptions::default() }
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

#[test]
fn values_missing_and_unreadable_ones_are_counted() {
    let csv = "n,c,b,t\n1.5,x,true,2013-01-01\n,,,\nwhat,y,perhaps,later\ninf,x,false,2013-01-03\n";
    let kinds = [
        ("n", ColumnKind::Numeric),
        ("c", ColumnKind::Categorical),
        ("b", ColumnKind::Boolean),
        ("t", ColumnKind::Timestamp),
    ];
    let profile = profile_of(Bytes::from_static(csv.as_bytes()), &expecting(&kinds));
    assert_eq!(profile.rows, 4);
    assert!(profile.columns.iter().all(|column| column.profile.rows() == 4 && column.profile.missing() == 1));
    let Some(ColumnProfile::Numeric(numbers)) = profile.column("n") else { panic!() };
    assert_eq!((numbers.finite(), numbers.non_finite(), numbers.unreadable()), (1, 1, 1));
    let Some(ColumnProfile::Categorical(texts)) = profile.column("c") else { panic!() };
    assert_eq!(texts.top(9), [("x".to_owned(), 2), ("y".to_owned(), 1)]);
    let Some(ColumnProfile::Boolean(flags)) = profile.column("b") else { panic!() };
    assert_eq!(flags.top(9), [("false".to_owned(), 1), ("true".to_owned(), 1)]);
    assert_eq!(flags.unreadable(), 1);
    let Some(ColumnProfile::Timestamp(times)) = profile.column("t") else { panic!() };
    assert_eq!((times.unreadable(), times.span()), (1, Some((1_356_998_400_000, 1_357_171_200_000))));
}

/// The profile of numbers that are counted as one batch.
fn counted_together(values: &[f64], missing: u64) -> ColumnProfile {
    let mut numeric = Numeric::new();
    numeric.add_all(values);
    numeric.add_missing(missing);
    ColumnProfile::Numeric(numeric)
}

#[test]
fn numbers_of_every_width_have_the_same_profile() {
    let wide = [Some(7), None, Some(-3), Some(7), None, Some(100)];
    let expected = counted_together(&[7.0, -3.0, 7.0, 100.0], 2);
    let file = parquet_of(vec![
        ("f64", Arc::new(wide.iter().map(|value| value.map(f64::from)).collect::<Float64Array>())),
        ("f32", Arc::new(wide.iter().map(|value| value.map(f32::from)).collect::<Float32Array>())),
        ("i8", Arc::new(Int8Array::from(wide.to_vec()))),
        ("i32", Arc::new(wide.iter().map(|value| value.map(i32::from)).collect::<Int32Array>())),
        (
            "decimal",
            Arc::new(
                wide.iter()
                    .map(|value| value.map(|whole| i128::from(whole) * 100))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
        ),
    ]);
    for column in profile_of(file, &ScanOptions::default()).columns {
        assert_eq!(column.profile, expected, "{}", column.name);
    }
    let unsigned = UInt64Array::from(vec![Some(u64::MAX), None, Some(3)]);
    let large = profile_of(parquet_of(vec![("u64", Arc::new(unsigned))]), &ScanOptions::default());
    assert_eq!(large.columns[0].profile, counted_together(&[u64::MAX as f64, 3.0], 1));
}

#[test]
fn changing_dictionaries_and_their_nulls_are_counted() {
    let batch = |keys: Vec<Option<i32>>, values: &ArrayRef| {
        let array = DictionaryArray::<Int32Type>::new(Int32Array::from(keys), values.clone());
        let rows = RecordBatch::try_from_iter_with_nullable([("c", Arc::new(array) as ArrayRef, true)]).unwrap();
        ScanBatch { rows, unparsable: vec![0], examples: vec![None] }
    };
    let first: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("unused"), None, Some("a")]));
    let second: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
    let batches = [
        batch(vec![Some(0), Some(3), Some(2), None], &first),
        batch(vec![Some(0)], &first),
        batch(vec![Some(0), Some(1)], &second),
        batch(vec![Some(0)], &first),
    ];
    let data_type = batches[0].rows.column(0).data_type().clone();
    let mut profiler =
        Profiler::new(&[ScanColumn { name: "c".into(), kind: ColumnKind::Categorical, data_type, is_empty: false }]);
    batches.iter().for_each(|batch| profiler.add(batch));
    let expected = ["a", "a", "a", "b", "a", "a"].map(Some).into_iter().chain([None, None]);
    assert_eq!(profiler.finish().columns[0].profile, ColumnProfile::of_texts(expected));
}

#[test]
fn the_profile_of_a_file_without_rows_has_its_columns() {
    let profile = profile_of(Bytes::from_static(b"a,b\n"), &ScanOptions::default());
    assert_eq!((profile.rows, profile.columns.len()), (0, 2));
    assert_eq!(Profile::from_bytes(&profile.to_bytes()).unwrap(), profile);
}

#[test]
fn more_buckets_count_more_numbers_exactly() {
    let csv = (0..10_000).fold("x\n".to_owned(), |csv, i| csv + &format!("{}\n", f64::from(i) / 7.0));
    let scan = || Scan::of_bytes(csv.clone().into(), &ScanOptions::default()).unwrap();
    let exact = |mut profiler: Profiler| {
        scan().for_each(|batch| profiler.add(&batch.unwrap()));
        let ColumnProfile::Numeric(numbers) = &profiler.finish().columns[0].profile else { panic!() };
        numbers.distinct()
    };
    assert_eq!(exact(Profiler::new(scan().columns())), None);
    assert_eq!(exact(Profiler::with_buckets(scan().columns(), 1 << 20)), Some(10_000));
}

fn row() -> impl Strategy<Value = (Option<f64>, Option<u8>, Option<bool>, Option<i64>)> {
    let number =
        prop_oneof![4 => -1e3..1e3_f64, 1 => (0..5_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(1e300)];
    (
        prop::option::of(number),
        prop::option::of(0..30_u8),
        prop::option::of(any::<bool>()),
        prop::option::of(0..1_i64 << 40),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_profile_does_not_depend_on_batches(
        rows in prop::collection::vec(row(), 1..300),
        batch_rows in 1..100_usize,
    ) {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(rows.iter().map(|row| row.0).collect::<Float64Array>())),
            ("c", Arc::new(rows.iter().map(|row| row.1.map(|c| format!("v{c}"))).collect::<StringArray>())),
            ("b", Arc::new(rows.iter().map(|row| row.2).collect::<BooleanArray>())),
            ("t", Arc::new(rows.iter().map(|row| row.3).collect::<TimestampMillisecondArray>())),
        ];
        let expected = [
            ColumnProfile::of_numbers(rows.iter().map(|row| row.0.filter(|number| !number.is_nan()))),
            ColumnProfile::of_texts(rows.iter().map(|row| row.1.map(|c| format!("v{c}"))).collect::<Vec<_>>().iter().map(Option::as_deref)),
            ColumnProfile::of_flags(rows.iter().map(|row| row.2)),
        ];
        let cut = ScanOptions { batch_rows, ..ScanOptions::default() };
        let profile = profile_of(parquet_of(columns), &cut);
        for (column, expected) in profile.columns.iter().zip(expected) {
            match (&column.profile, &expected) {
                // The last bits of sums depend on the batches.
                (ColumnProfile::Numeric(found), ColumnProfile::Numeric(expected)) => {
                    prop_assert_eq!(found.values(), expected.values());
                    prop_assert_eq!((found.missing(), found.non_finite()), (expected.missing(), expected.non_finite()));
                }
                (found, expected) => prop_assert_eq!(found, expected),
            }
        }
    }
}

#[test]
fn csv_and_parquet_of_the_same_rows_have_the_same_profile() {
    let csv = Bytes::from_static(
        b"n,i,c,b,t\n0.5,1,x,true,2013-01-01\n,,,,\n-1.25,3,y,false,2014-01-01\n1e9,3,x,true,2013-06-01\n",
    );
    let parquet = write_parquet(&read_csv(csv.clone()).unwrap()).unwrap();
    assert_eq!(profile_of(csv, &ScanOptions::default()), profile_of(parquet, &ScanOptions::default()));
}
