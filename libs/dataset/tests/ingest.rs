//! Ingestion gives what reading the same files as tables gives, in bounded pieces.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

#[path = "ingest/literal.rs"]
mod literal;
#[path = "ingest/refused.rs"]
mod refused;
#[path = "ingest/rules.rs"]
mod rules;
#[path = "ingest/support.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, AsArray as _, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array,
        new_null_array,
    },
    datatypes::{DataType, Int64Type},
};
use chrono::DateTime;
use proptest::prelude::*;
use rekindle_dataset::{Error, IngestOptions, Limits, Part, Table, content_digest, summarise, write_parquet};
use rekindle_domain::{
    ColumnKind,
    dataset::{FileFormat, SourceColumns},
};

use self::support::{Input, ingested, options, parquet_of, read_all, table_of};

#[test]
fn sources_are_joined_converted_sorted_and_cut() {
    let inputs = [
        Input::csv("at,n,word,only\n2013-01-03,1,a,x\n2013-01-01,2,,y\n2013-01-02,3,c,z\n"),
        Input::csv("word,at,n,extra\nd,2013-01-02T00:00:00Z,4.0,q\n"),
    ];
    let day = |day: i64| DateTime::from_timestamp(1_356_998_400 + (day - 1) * 86_400, 0);
    let made =
        ingested(&inputs, &IngestOptions { time_column: Some("at".into()), until: day(3), ..options() }).unwrap();
    assert_eq!(made.schema.names().collect::<Vec<_>>(), ["at", "n", "word", "only", "extra"]);
    assert_eq!((made.rows, made.time_range), (3, day(1).zip(day(2))));
    let table = table_of(&made);
    assert_eq!(
        table.column("n").unwrap().as_primitive::<Int64Type>().values(),
        &[2, 3, 4],
        "equal times keep their order"
    );
    assert!(made.schema.column("word").unwrap().nullable && !made.schema.column("n").unwrap().nullable);
    assert_eq!((content_digest(&table), summarise(&table)), (made.content, made.summaries));
}

#[test]
fn text_that_is_to_be_numeric_is_integer_if_every_value_of_every_source_is() {
    let kinds = BTreeMap::from([("code".to_owned(), ColumnKind::Numeric)]);
    let options = IngestOptions { kinds, ..options() };
    let of = |second: &str| {
        let made = ingested(&[Input::csv("code\n01\n\n02\n"), Input::csv(second)], &options);
        made.map(|made| made.schema.columns[0].data_type.to_string())
    };
    assert_eq!(of("code\n003\n").unwrap(), "Int64");
    assert_eq!(of("code\n00.5\n").unwrap(), "Float64");
    let refused = of("code\nx\n").unwrap_err();
    assert_eq!(refused.part, Part::Kinds);
    assert!(matches!(refused.error, Error::Lossy { row: 3, .. }), "rows count over all sources: {:?}", refused.error);
}

#[test]
fn text_is_as_its_source_spells_it_and_numbers_widen_whatever_the_order_of_files() {
    let codes = Input::csv("code\nA1\n1e3\n");
    let numbers = Input::csv("code\n1.0\n+1\n007\n");
    let integers = Input::csv("code\n1\n2\n");
    let fractions = Input::csv("code\n0.5\n");
    let without = Input::csv("code,other\n,x\n");
    let of = |inputs: &[&Input], kinds: &[(&str, ColumnKind)]| {
        let kinds = kinds.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect();
        let inputs: Vec<Input> = inputs.iter().map(|&input| input.clone()).collect();
        let made = ingested(&inputs, &IngestOptions { kinds, ..options() }).unwrap();
        let table = table_of(&made);
        let column = table.column("code").unwrap();
        let texts = arrow::compute::cast(column, &DataType::Utf8).unwrap();
        let mut texts: Vec<String> =
            texts.as_string::<i32>().iter().map(|text| text.unwrap_or("-").to_owned()).collect();
        texts.sort();
        (column.data_type().to_string(), texts.join(" "))
    };
    for order in [[&codes, &numbers], [&numbers, &codes]] {
        assert_eq!(of(&order, &[]), ("Utf8".to_owned(), "+1 007 1.0 1e3 A1".to_owned()));
    }
    assert_eq!(of(&[&codes, &integers], &[]).1, "1 1e3 2 A1");
    for order in [[&integers, &fractions, &without], [&without, &fractions, &integers]] {
        assert_eq!(of(&order, &[]), ("Float64".to_owned(), "- 0.5 1.0 2.0".to_owned()));
    }
    let categorical = [("code", ColumnKind::Categorical)];
    let signed = Input::csv("code\n+1\n1.0\n1e3\n");
    assert_eq!(of(&[&signed], &[]).0, "Float64");
    assert_eq!(of(&[&signed], &categorical), ("Utf8".to_owned(), "+1 1.0 1e3".to_owned()));
}

/// Null, not-a-number and the empty text are one value in both formats.
#[test]
fn missing_values_are_the_same_in_csv_and_parquet() {
    let csv = Input::csv("number,text,whole\n0.5,a,1\nnan,,\n,\"\",3\n-1.5,b,4\n");
    let numbers = Float64Array::from(vec![Some(0.5), Some(f64::NAN), None, Some(-1.5)]);
    let texts = StringArray::from(vec![Some("a"), Some(""), None, Some("b")]);
    let whole = Int64Array::from(vec![Some(1), None, Some(3), Some(4)]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("number", Arc::new(numbers)), ("text", Arc::new(texts)), ("whole", Arc::new(whole))];
    let parquet = Input { bytes: parquet_of(columns), format: FileFormat::Parquet };
    let [of_csv, of_parquet] = [csv, parquet].map(|input| ingested(&[input], &options()).unwrap());
    assert_eq!(of_csv.content, of_parquet.content);
    assert_eq!(of_csv.summaries, of_parquet.summaries);
    assert_eq!(of_csv.summaries.iter().map(|column| column.missing).collect::<Vec<_>>(), [2, 2, 1]);
}

#[test]
fn a_range_without_rows_is_an_empty_file() {
    let far = DateTime::from_timestamp(4_000_000_000, 0);
    let options = IngestOptions { time_column: Some("at".into()), from: far, ..options() };
    let made = ingested(&[Input::csv("at,n\n2013-01-03,1\n")], &options).unwrap();
    assert_eq!((made.rows, made.time_range, table_of(&made).rows()), (0, None, 0));
}

#[test]
fn a_text_that_repeats_is_expanded_batch_by_batch() {
    // 200 MB of text if it were expanded at once.
    let long = "x".repeat(100_000);
    let rows: StringArray = (0..2000).map(|_| Some(long.as_str())).collect();
    let file = parquet_of(vec![("text", Arc::new(rows) as ArrayRef)]);
    assert!(file.len() < 300_000, "{}", file.len());
    let made = ingested(&[Input { bytes: file.clone(), format: FileFormat::Parquet }], &options()).unwrap();
    assert_eq!((made.rows, made.summaries[0].distinct, made.summaries[0].top[0].count), (2000, 1, 2000));
    let limits = Limits { bytes: 50_000_000, ..Limits::default() };
    let refused =
        ingested(&[Input { bytes: file, format: FileFormat::Parquet }], &IngestOptions { limits, ..options() });
    assert!(matches!(refused.unwrap_err().error, Error::TooLarge { what: "bytes", limit: 50_000_000 }));
}

#[test]
fn types_without_canonical_form_are_refused_by_name() {
    let bytes = BinaryArray::from_vec(vec![b"x"]);
    for (file, words) in [
        (parquet_of(vec![("pixels", Arc::new(bytes) as ArrayRef)]), "store text as strings, or drop the column"),
        (
            parquet_of(vec![("id", Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef)]),
            "row 1: 18446744073709551615",
        ),
    ] {
        let refused = ingested(&[Input { bytes: file, format: FileFormat::Parquet }], &options()).unwrap_err();
        assert_eq!(refused.part, Part::Source(0));
        assert!(refused.error.to_string().contains(words), "{}", refused.error);
    }
}

/// The sources as one table; these columns of CSV files are read as text.
fn joined(inputs: &[Input], options: &IngestOptions, texts: &[String]) -> Option<Table> {
    // The type of a Parquet column counts, whether it has values or not.
    let declared = inputs.iter().filter(|input| input.format == FileFormat::Parquet).flat_map(|input| {
        let table = input.table().unwrap();
        let is_text = |name: &&str| table.column(name).unwrap().data_type() == &DataType::Utf8;
        table.schema.names().filter(is_text).map(str::to_owned).collect::<Vec<_>>()
    });
    let declared: Vec<String> = declared.collect();
    let texts = [texts, &declared].concat();
    let mut tables: Vec<Table> = inputs.iter().map(|input| input.table_with(&texts)).collect::<Result<_, _>>().ok()?;
    if options.columns == SourceColumns::Any {
        let names: BTreeSet<String> = tables.iter().flat_map(|table| table.schema.names().map(str::to_owned)).collect();
        tables = tables.iter().map(|table| padded(table, &names)).collect();
    }
    let table = if tables.len() == 1 { tables[0].clone() } else { Table::concat(&tables).ok()? };
    let declared = declared.into_iter().filter(|name| table.schema.column(name).is_some());
    let table = table.with_kinds(&declared.map(|name| (name, ColumnKind::Categorical)).collect()).ok()?;
    table.with_kinds(&options.kinds).ok()
}

/// A table with columns of missing values for the names that it lacks.
fn padded(table: &Table, names: &BTreeSet<String>) -> Table {
    let mut columns: Vec<(String, ArrayRef)> =
        table.schema.names().map(|name| (name.to_owned(), table.column(name).unwrap().clone())).collect();
    let absent = names.iter().filter(|name| table.schema.column(name).is_none());
    columns.extend(absent.map(|name| (name.clone(), new_null_array(&DataType::Utf8, table.rows()))));
    Table::from_batch(
        &RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap(),
    )
    .unwrap()
}

/// What ingestion must give, by way of tables.
fn by_tables(inputs: &[Input], options: &IngestOptions) -> Option<Table> {
    let declared = options.kinds.iter().filter(|(_, kind)| **kind == ColumnKind::Categorical);
    let mut texts: Vec<String> = declared.map(|(name, _)| name.clone()).collect();
    let inferred = joined(inputs, options, &texts)?;
    texts.extend(
        inferred
            .schema
            .columns
            .iter()
            .filter(|column| column.data_type == DataType::Utf8)
            .map(|column| column.name.clone()),
    );
    let table = joined(inputs, options, &texts)?;
    let Some(column) = &options.time_column else { return Some(table) };
    table.sort_by_time(column).ok()?.slice_time(column, options.from, options.until).ok()
}

fn input() -> impl Strategy<Value = Input> {
    let time =
        prop_oneof![9 => (0..40_u32).prop_map(|day| format!("2013-01-{:02}", day % 28 + 1)), 1 => Just(String::new())];
    let value = prop::sample::select(vec!["", "1", "2.0", "0.5", "07", "true", "x", "9007199254740993"]);
    let rows = prop::collection::vec((time, value.clone(), value), 0..30);
    (rows, any::<bool>(), any::<bool>()).prop_map(|(rows, is_parquet, has_extra)| {
        let mut text = if has_extra { "at,a,extra,b\n".to_owned() } else { "b,at,a\n".to_owned() };
        for (at, a, b) in rows {
            text += &if has_extra { format!("{at},{a},e,{b}\n") } else { format!("{b},{at},{a}\n") };
        }
        let csv = Input::csv(&text);
        match csv.table() {
            Ok(table) if is_parquet => Input { bytes: write_parquet(&table).unwrap(), format: FileFormat::Parquet },
            _ => csv,
        }
    })
}

fn any_options() -> impl Strategy<Value = IngestOptions> {
    let kind = prop::option::of(prop::sample::select(ColumnKind::ALL.to_vec()));
    let bound = prop::option::of(
        (0..30_i64).prop_map(|day| DateTime::from_timestamp(1_356_998_400 + day * 86_400, 0).unwrap()),
    );
    let columns = prop::sample::select(vec![SourceColumns::Any, SourceColumns::Common]);
    (kind, any::<bool>(), bound.clone(), bound, columns).prop_map(|(kind, is_ordered, from, until, columns)| {
        IngestOptions {
            columns,
            kinds: kind.map(|kind| ("a".to_owned(), kind)).into_iter().collect(),
            time_column: is_ordered.then(|| "at".to_owned()),
            from: from.filter(|_| is_ordered),
            until: until.filter(|_| is_ordered),
            ..options()
        }
    })
}

/// The types of a column in the sources.
fn types_of(name: &str, inputs: &[Input]) -> Vec<DataType> {
    inputs.iter().filter_map(|input| Some(input.table().ok()?.schema.column(name)?.data_type.clone())).collect()
}

/// Whether a column has a declared kind, and types in the sources that one table cannot have before the kind is applied: numbers beside texts
/// that are to be times (`values/instants.rs` has such sources), fractions beside texts that are to be numbers, where 2.0 is an integer in one
/// and a text in the other, and booleans beside another type.
fn has_no_common_table(inputs: &[Input], options: &IngestOptions) -> bool {
    let types = types_of("a", inputs);
    let has = |wanted: DataType| types.contains(&wanted);
    match options.kinds.get("a") {
        Some(ColumnKind::Timestamp) if types.iter().any(DataType::is_numeric) && has(DataType::Utf8) => true,
        Some(ColumnKind::Numeric) if has(DataType::Float64) && has(DataType::Utf8) => true,
        Some(_) => has(DataType::Boolean) && types.iter().any(|found| *found != DataType::Boolean),
        None => false,
    }
}

/// Whether a declared kind may hold what the numbers of the sources have no common type for: an integer beyond 2^53 and a fraction are texts.
fn is_held_by_its_kind(inputs: &[Input], options: &IngestOptions) -> bool {
    let types = types_of("a", inputs);
    options.kinds.contains_key("a") && [DataType::Int64, DataType::Float64].iter().all(|found| types.contains(found))
}

proptest! {
    #[test]
    fn ingestion_gives_what_tables_give(inputs in prop::collection::vec(input(), 1..4), options in any_options()) {
        prop_assume!(!has_no_common_table(&inputs, &options));
        match (by_tables(&inputs, &options), ingested(&inputs, &options)) {
            (Some(table), Ok(made)) => {
                prop_assert_eq!(made.content, content_digest(&table));
                prop_assert_eq!(&made.schema, &table.schema);
                prop_assert_eq!(read_all(&made), write_parquet(&table).unwrap());
                prop_assert_eq!(&made.summaries, &summarise(&table));
                let range = options.time_column.as_ref().and_then(|column| table.time_range(column).unwrap());
                prop_assert_eq!(made.time_range, range);
            }
            (None, Err(_)) => {}
            (None, Ok(_)) if is_held_by_its_kind(&inputs, &options) => {}
            (table, made) => prop_assert!(false, "{table:?}\n{made:?}"),
        }
    }
}
