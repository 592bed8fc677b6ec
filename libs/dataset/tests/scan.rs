//! Files read batch by batch give the same rows, wherever blocks and batches end.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float16Array,
        Float32Array, Int16Array, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
        TimestampSecondArray, UInt64Array,
    },
    compute,
    datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int32Type, Int64Type, TimestampMillisecondType},
};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel},
    data_type::{Int96, Int96Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use proptest::prelude::*;
use rekindle_dataset::{
    Error, Progress, Scan, ScanBatch, ScanOptions, SkipReason, Table, canonical_timestamp, read_csv, read_parquet,
    write_parquet,
};
use rekindle_domain::{ColumnKind, dataset::ReadOptions};

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn with_block(block_bytes: usize) -> ScanOptions {
    ScanOptions { block_bytes, ..ScanOptions::default() }
}

fn expecting(kinds: &[(&str, ColumnKind)]) -> ScanOptions {
    let kinds: BTreeMap<String, ColumnKind> = kinds.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect();
    ScanOptions { expected: Some(kinds), ..ScanOptions::default() }
}

fn batches(bytes: &Bytes, options: &ScanOptions) -> Result<Vec<ScanBatch>, Error> {
    Scan::of_bytes(bytes.clone(), options)?.collect()
}

/// All batches in one table of canonical types.
fn whole(bytes: &Bytes, options: &ScanOptions) -> Result<Table, Error> {
    let batches: Vec<RecordBatch> = batches(bytes, options)?.into_iter().map(|batch| batch.rows).collect();
    let first = batches.first().ok_or(Error::Empty { what: "no rows after the header" })?;
    Table::from_batch(&compute::concat_batches(&first.schema(), &batches).unwrap())
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

fn sample() -> Table {
    let text = "i,f,b,t,s\n1,0.1,true,2013-01-01,x\n,,,,\n3,nan,false,1969-12-31T23:59:59.999Z,é\n";
    read_csv(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// A file in the directory of cargo for tests.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[track_caller]
fn assert_same_as_read_csv(csv: &str, options: &ScanOptions) {
    match (read_csv(text(csv)), whole(&text(csv), options)) {
        (Ok(read), Ok(scanned)) => assert_eq!(scanned, read, "{csv:?} {options:?}"),
        (Err(_), Err(_)) if csv.trim().is_empty() => {}
        (Err(read), Err(scanned)) => assert_eq!(scanned.to_string(), read.to_string(), "{csv:?} {options:?}"),
        (read, scanned) => panic!("{csv:?} {options:?}: {scanned:?} instead of {read:?}"),
    }
}

#[test]
fn a_csv_block_may_end_anywhere() {
    for csv in [
        "a,b\n1,x\n2,\"y\"\n",
        "\u{feff}a,\"b \"\"quoted\"\"\"\r\n1,\"two\r\nlines, \"\"é\"\"\"\r\n2,\"\"\r\n\r\n\n",
        "i,f,b,t,s,late\n1,1.5,true,2013-01-01T10:00:00Z,x,1\n,,,,,2\n-3,2,False,2013-01-01 11:00:00.250,\"y, z\",three",
        "only\n1\n\n\n2\n\n\n",
        "a,b\n1,",
        "a\n\"\"\n\"x\"\r\n",
        "a,b\n1,x\r\r\n2,y\r\r\n",
        "",
        "a,b\n",
        "a,b\r\n\r\n",
        "a,b,a\n1,2,3\n",
        "a,b\n1,2\n3\n",
        "a,b\n\"x\ny\",2\n1,2,3\n",
        "a,b\n1,2\n\n3,4\n",
        "a,b\n1,2\n3,x\"y\n\"",
        "a,b\n1,\"x\"y\n5,\"6\"\n",
        "a,b\n1,\"x\"\ry\n",
        "a,b\n1,2\n\"open,4\n5,6\n",
    ] {
        for block in 1..=csv.len() + 1 {
            assert_same_as_read_csv(csv, &with_block(block));
            assert_same_as_read_csv(csv, &ScanOptions { batch_rows: 1, ..with_block(block) });
        }
    }
}

#[test]
fn invalid_utf8_is_located_wherever_blocks_end() {
    for bytes in [&b"a\nok\n\xffx\n"[..], b"\xef\xbb\xbfa\nok\n\xc3", b"a\nok\n\xe2\x82\n"] {
        let bytes = Bytes::from_static(bytes);
        let expected = read_csv(bytes.clone()).unwrap_err().to_string();
        for block in 1..=bytes.len() + 1 {
            assert_eq!(whole(&bytes, &with_block(block)).unwrap_err().to_string(), expected, "{block}");
        }
    }
}

#[test]
fn a_file_without_rows_has_columns() {
    let mut scan = Scan::of_bytes(text("a,b\n"), &ScanOptions::default()).unwrap();
    assert_eq!(
        scan.columns().iter().map(|c| (c.name.as_str(), c.kind)).collect::<Vec<_>>(),
        [("a", ColumnKind::Categorical), ("b", ColumnKind::Categorical)]
    );
    assert!(scan.next().is_none());
    let none = write_parquet(&sample().slice(0, 0)).unwrap();
    let mut scan = Scan::of_bytes(none, &ScanOptions::default()).unwrap();
    assert_eq!(scan.columns().len(), 5);
    assert!(scan.next().is_none());
    assert!(Scan::of_bytes(Bytes::new(), &ScanOptions::default()).is_err());
}

#[test]
fn batches_are_bounded_by_rows_and_by_bytes() {
    let csv = text(&("n,s\n".to_owned() + &"1,abcdefgh\n".repeat(1000)));
    let sizes = |options: &ScanOptions| -> Vec<usize> {
        batches(&csv, options).unwrap().iter().map(|batch| batch.rows.num_rows()).collect()
    };
    assert_eq!(sizes(&ScanOptions { batch_rows: 400, ..ScanOptions::default() }), [400, 400, 200]);
    assert_eq!(sizes(&ScanOptions { batch_bytes: 4499, ..ScanOptions::default() }), [500, 500]);
    let wide =
        parquet_of(vec![("s", Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("{i:01000}")))))]);
    let rows: Vec<usize> = batches(&wide, &ScanOptions { batch_bytes: 200_000, ..ScanOptions::default() })
        .unwrap()
        .iter()
        .map(|batch| batch.rows.num_rows())
        .collect();
    assert!(rows.iter().sum::<usize>() == 1000 && (100..=200).contains(&rows[0]), "{rows:?}");
}

#[test]
fn the_error_of_a_long_record_names_the_limit() {
    let options = ScanOptions { record_bytes: 1000, block_bytes: 100, ..ScanOptions::default() };
    let open = text(&("a,b\n1,2\n3,\"".to_owned() + &"x\n".repeat(5000)));
    let message = whole(&open, &options).unwrap_err().to_string();
    assert!(message.contains("line 3") && message.contains("1000 bytes"), "{message}");
    let long = text(&format!("a,b\n1,2\n3,\"{}\"\n", "x\n".repeat(450)));
    assert_eq!(whole(&long, &options).unwrap(), read_csv(long).unwrap());
}

#[test]
fn columns_have_the_expected_kinds_and_unparsable_values_are_counted() {
    let csv = text(
        "n,c,b,t,extra\n1.5,07,true,2013-01-01,x\n,,,,x\nx1,1.0,yes,12,x\n12345678901234567,a,FALSE,never,x\nnan,b,0,1,x\n007,,,,\n",
    );
    let kinds = [
        ("n", ColumnKind::Numeric),
        ("c", ColumnKind::Categorical),
        ("b", ColumnKind::Boolean),
        ("t", ColumnKind::Timestamp),
        ("absent", ColumnKind::Numeric),
    ];
    let mut scan = Scan::of_bytes(csv, &expecting(&kinds)).unwrap();
    assert_eq!(
        scan.columns().iter().map(|c| c.kind).collect::<Vec<_>>(),
        kinds[..4].iter().map(|k| k.1).collect::<Vec<_>>()
    );
    assert_eq!((scan.skipped()[0].name.as_str(), &scan.skipped()[0].reason), ("extra", &SkipReason::Unexpected));
    let batch = scan.next().unwrap().unwrap();
    assert_eq!(batch.unparsable, [2, 0, 2, 3]);
    let numbers = batch.rows.column(0).as_primitive::<Float64Type>();
    assert_eq!((numbers.null_count(), numbers.value(0), numbers.value(3)), (4, 1.5, 12_345_678_901_234_567_i64 as f64));
    assert!(numbers.is_null(4), "a written NaN is missing");
    let codes = batch.rows.column(1).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
    assert_eq!(codes.into_iter().flatten().collect::<Vec<_>>(), ["07", "1.0", "a", "b"]);
    assert!(scan.next().is_none());
}

#[test]
fn parquet_columns_of_another_kind_than_expected_are_parsed_from_text() {
    let made = parquet_of(vec![
        ("number", Arc::new(Float32Array::from(vec![Some(1.0), Some(0.5), None]))),
        ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(7), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("2.5"), Some("far"), None]))),
        ("void", Arc::new(NullArray::new(3))),
        ("flag", Arc::new(Int16Array::from(vec![Some(1), Some(0), None]))),
        ("same", Arc::new(Int16Array::from(vec![Some(1), Some(0), None]))),
    ]);
    let kinds = [
        ("number", ColumnKind::Categorical),
        ("big", ColumnKind::Categorical),
        ("text", ColumnKind::Numeric),
        ("void", ColumnKind::Timestamp),
        ("flag", ColumnKind::Boolean),
        ("same", ColumnKind::Numeric),
    ];
    let batch = batches(&made, &expecting(&kinds)).unwrap().remove(0);
    assert_eq!(batch.unparsable, [0, 0, 1, 0, 2, 0]);
    let words = |column: usize| -> Vec<Option<String>> {
        let words = batch.rows.column(column).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        words.into_iter().map(|word| word.map(str::to_owned)).collect()
    };
    assert_eq!(words(0), [Some("1".to_owned()), Some("0.5".to_owned()), None]);
    assert_eq!(words(1), [Some(u64::MAX.to_string()), Some("7".to_owned()), None]);
    assert_eq!(batch.rows.column(2).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(2.5), None, None]);
    assert_eq!((batch.rows.column(3).data_type(), batch.rows.column(3).null_count()), (&canonical_timestamp(), 3));
    assert_eq!(batch.rows.column(4).null_count(), 3);
    assert_eq!(batch.rows.column(5).data_type(), &DataType::Int16, "numbers keep their stored width");
}

#[test]
fn parquet_columns_have_the_cheapest_types() {
    let dictionary: DictionaryArray<Int8Type> = ["jfk", "lga", "jfk"].into_iter().collect();
    let numbers: DictionaryArray<Int8Type> =
        DictionaryArray::new(vec![0_i8, 1, 0].into(), Arc::new(Float32Array::from(vec![0.5, 1.5])));
    let made = parquet_of(vec![
        ("i16", Arc::new(Int16Array::from(vec![1, 2, 3]))),
        ("f32", Arc::new(Float32Array::from(vec![0.1, 0.5, f32::NAN]))),
        ("f16", Arc::new(Float16Array::from_iter_values([0.5, 1.0, 2.0].map(half)))),
        ("decimal", Arc::new(Decimal128Array::from(vec![150, -25, 0]).with_precision_and_scale(9, 2).unwrap())),
        ("text", Arc::new(StringArray::from(vec!["a", "", "a"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a", "b", "c"]))),
        ("dictionary", Arc::new(dictionary)),
        ("numbers", Arc::new(numbers)),
        ("void", Arc::new(NullArray::new(3))),
        ("pixels", Arc::new(BinaryArray::from_vec(vec![b"x", b"y", b"z"]))),
        ("date", Arc::new(Date32Array::from(vec![0, 1, -1]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![0, 1, -1]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![0, 1001, -1]).with_timezone("America/New_York"))),
    ]);
    let mut scan = Scan::of_bytes(made, &ScanOptions::default()).unwrap();
    let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let (short, float, double, time) = (DataType::Int16, DataType::Float32, DataType::Float64, canonical_timestamp());
    assert_eq!(
        scan.columns().iter().map(|c| &c.data_type).collect::<Vec<_>>(),
        [&short, &float, &float, &double, &words, &words, &words, &float, &words, &time, &time, &time]
    );
    assert_eq!(scan.skipped()[0].name, "pixels");
    assert_eq!(scan.skipped()[0].reason.to_string(), "its type Binary is not supported");
    let rows = scan.next().unwrap().unwrap().rows;
    assert_eq!(rows.column(2).as_primitive::<Float32Type>().values(), &[0.5, 1.0, 2.0]);
    assert_eq!(rows.column(3).as_primitive::<Float64Type>().values(), &[1.5, -0.25, 0.0]);
    assert_eq!(rows.column(7).as_primitive::<Float32Type>().values(), &[0.5, 1.5, 0.5]);
    assert_eq!(rows.column(8).null_count(), 3);
    let times = |column: usize| rows.column(column).as_primitive::<TimestampMillisecondType>().values().to_vec();
    assert_eq!(
        (times(9), times(10), times(11)),
        (vec![0, 86_400_000, -86_400_000], vec![0, 1000, -1000], vec![0, 1, -1])
    );
}

fn half(value: f32) -> <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native {
    <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::from_f32(value)
}

/// Julian day 2,440,588 is 1970-01-01; nanoseconds since 1970 end before the other day.
#[test]
fn int96_timestamps_beyond_the_range_of_nanoseconds_are_read() {
    let schema = Arc::new(parse_message_type("message m { required int96 t; }").unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::default())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let days = [2_440_589, 2_440_588 + 365_243];
    let times = days.map(|day| {
        let mut time = Int96::new();
        time.set_data(1_000_000, 0, day);
        time
    });
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let batch = batches(&bytes.into(), &ScanOptions::default()).unwrap().remove(0);
    let times = batch.rows.column(0).as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.values(), &[86_400_001, 365_243 * 86_400_000 + 1]);
}

#[test]
fn row_groups_of_any_size_give_the_same_rows() {
    let names = (0..5000_i64).map(|i| if i % 7 == 0 { String::new() } else { format!("{i},v{}\n", i * i % 97) });
    let rows: Vec<String> = names.map(|row| if row.is_empty() { ",\n".to_owned() } else { row }).collect();
    let table = read_csv(text(&("n,s\n".to_owned() + &rows.concat()))).unwrap();
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(777)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.batch.schema(), Some(properties)).unwrap();
    writer.write(&table.batch).unwrap();
    writer.close().unwrap();
    for batch_rows in [1, 100, 777, 1000, 10_000] {
        let options = ScanOptions { batch_rows, ..ScanOptions::default() };
        assert_eq!(whole(&bytes.clone().into(), &options).unwrap(), table, "{batch_rows}");
    }
}

#[test]
fn texts_stay_dictionary_encoded_across_row_groups() {
    // A few long texts in several row groups: each group has its own dictionary, and no batch spans two groups.
    let texts = ["a", "b", "c"].map(|letter| letter.repeat(32 << 10));
    let mut bytes = Vec::new();
    let rows: StringArray = (0..2400).map(|row| Some(texts[row % 3].as_str())).collect();
    let batch = RecordBatch::try_from_iter([("long", Arc::new(rows) as ArrayRef)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(600)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for options in [ScanOptions::default(), expecting(&[("long", ColumnKind::Numeric)])] {
        for batch in batches(&bytes.clone().into(), &options).unwrap() {
            let size = batch.rows.get_array_memory_size();
            assert!(size < 1 << 20, "{size} bytes for {} rows", batch.rows.num_rows());
        }
    }
}

#[test]
fn parquet_is_read_in_every_compression() {
    let table = sample();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let mut bytes = Vec::new();
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(&mut bytes, table.batch.schema(), Some(properties)).unwrap();
        writer.write(&table.batch).unwrap();
        writer.close().unwrap();
        assert_eq!(whole(&bytes.into(), &ScanOptions::default()).unwrap(), table, "{compression}");
    }
}

#[test]
fn the_delimiter_and_the_missing_texts_are_options() {
    let missing = ["NA", "-"].map(str::to_owned).into();
    let reading = ReadOptions { separator: b';', missing, ..ReadOptions::default() };
    let options = ScanOptions { reading, ..ScanOptions::default() };
    let scanned = whole(&text("n;s\n1;x\nNA;\"y;z\"\n-3;-\n"), &options).unwrap();
    assert_eq!(scanned, read_csv(text("n,s\n1,x\n,y;z\n-3,\n")).unwrap());
    for (header, found) in [("a;b", ';'), ("a\tb", '\t'), ("a|b", '|')] {
        let error = batches(&text(&format!("{header}\n1\n")), &ScanOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Separator { found: reported, .. } if reported == found), "{error}");
    }
    assert_eq!(batches(&text("a;b,c\n1,2\n"), &ScanOptions::default()).unwrap().len(), 1);
}

#[test]
fn large_whole_numbers_are_rounded_where_the_numeric_kind_is_expected() {
    let options = expecting(&[("n", ColumnKind::Numeric)]);
    let csv = text("n\n18446744073709551615\n12345678901234567890123\n0123\n1.5\n");
    let batch = batches(&csv, &options).unwrap().remove(0);
    let numbers = batch.rows.column(0).as_primitive::<Float64Type>();
    assert_eq!(
        (numbers.value(0), numbers.value(1), numbers.value(3)),
        (u64::MAX as f64, 12_345_678_901_234_567_890_123.0, 1.5)
    );
    assert_eq!((batch.unparsable, batch.examples), (vec![1], vec![Some("0123".to_owned())]));
}

/// One file can be decoded while another is profiled.
#[test]
fn a_scan_may_move_to_another_thread() {
    let scan = Scan::of_bytes(text("a\n1\n"), &ScanOptions::default()).unwrap();
    assert_eq!(std::thread::spawn(move || scan.count()).join().unwrap(), 1);
}

#[test]
fn damaged_files_are_errors() {
    let good = write_parquet(&sample()).unwrap();
    for bad in
        [Bytes::from_static(b"PAR1\x15\0 nothing of the kind PAR1"), good.slice(..good.len() / 2), good.slice(..12)]
    {
        assert!(matches!(batches(&bad, &ScanOptions::default()), Err(Error::Parquet(_))));
    }
}

#[test]
fn the_format_follows_from_the_content_and_progress_reaches_the_end() {
    let parquet = path("scan.csv");
    std::fs::write(&parquet, write_parquet(&sample()).unwrap()).unwrap();
    let mut scan = Scan::open(&parquet, &ScanOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(scan.progress(), Progress { done: 0, total: 3 });
    assert_eq!(scan.by_ref().map(|batch| batch.unwrap().rows.num_rows()).sum::<usize>(), 3);
    assert_eq!(scan.progress(), Progress { done: 3, total: 3 });

    let csv = path("scan.parquet");
    std::fs::write(&csv, "n\n".to_owned() + &"1\n".repeat(70_000)).unwrap();
    let mut seen = Vec::new();
    let mut scan = Scan::open(&csv, &with_block(1000), &mut |progress| seen.push(progress)).unwrap();
    assert!(
        seen.len() == 2 && seen[0].done > 131_000 && seen[1] == Progress { done: 140_002, total: 280_004 },
        "{seen:?}"
    );
    let read: Vec<i64> =
        scan.by_ref().flat_map(|b| b.unwrap().rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(read.len() == 70_000 && read.iter().all(|&value| value == 1));
    assert_eq!(scan.progress(), Progress { done: 280_004, total: 280_004 });
    assert!(matches!(Scan::open(&path("none"), &ScanOptions::default(), &mut |_| ()), Err(Error::File { .. })));
}

#[test]
fn a_file_that_changes_between_two_passes_is_an_error() {
    let csv = path("changes.csv");
    std::fs::write(&csv, "n\n".to_owned() + &"1\n".repeat(20_000)).unwrap();
    let mut scan = Scan::open(&csv, &ScanOptions { batch_rows: 20_000, ..with_block(4) }, &mut |_| ()).unwrap();
    std::fs::write(&csv, "n\n".to_owned() + &"x\n".repeat(20_000)).unwrap();
    assert!(matches!(scan.next(), Some(Err(Error::Changed))));
    assert!(scan.next().is_none());
    for rows in [19_000, 21_000] {
        std::fs::write(&csv, "s\n".to_owned() + &"x\n".repeat(20_000)).unwrap();
        let mut scan = Scan::open(&csv, &with_block(4), &mut |_| ()).unwrap();
        std::fs::write(&csv, "s\n".to_owned() + &"y\n".repeat(rows)).unwrap();
        assert!(matches!(scan.find(Result::is_err), Some(Err(Error::Changed))), "{rows} rows");
    }
}

#[test]
fn scans_of_the_project_s_files_give_their_tables() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let flights: Bytes = std::fs::read(root.join("deploy/demo/flights_2013.parquet")).unwrap().into();
    assert_eq!(whole(&flights, &ScanOptions::default()).unwrap(), read_parquet(flights).unwrap());
    let digits: Bytes = std::fs::read(root.join("integration-tests/data/digits_8x8.csv")).unwrap().into();
    assert_eq!(whole(&digits, &ScanOptions::default()).unwrap(), read_csv(digits).unwrap());
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        4 => any::<i64>().prop_map(|v| v.to_string()),
        2 => (-9_007_199_254_740_995_i64..9_007_199_254_740_995).prop_map(|v| v.to_string()),
        4 => (-1000.0..1000.0).prop_map(|v: f64| v.to_string()),
        1 => prop::sample::select(vec!["nan", "inf", "1e400", "007", "+5", "-0", "true", "False", "9007199254740993"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["2013-01-01", "2013-01-01 10:00:00.5", "2013-01-01T10:00:00+02:00", "0013-01-01"])
            .prop_map(str::to_owned),
        1 => "[a-c,\"\r\n é]{1,8}".prop_map(|v| format!("\"{}\"", v.replace('"', "\"\""))),
    ]
}

/// Tables whose columns are mostly of one type: each draws from a few fields.
fn csv_text() -> impl Strategy<Value = String> {
    let column = (1_usize..3).prop_flat_map(|kinds| prop::collection::vec(field(), kinds));
    let line_end = prop::sample::select(vec!["\n", "\r\n"]);
    (prop::collection::vec(column, 1..5), prop::collection::vec(any::<prop::sample::Index>(), 1..60), line_end)
        .prop_map(|(columns, picks, line_end)| {
            let names = (0..columns.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",");
            let rows = picks.chunks(columns.len()).map(|picks| {
                let fields = columns.iter().zip(picks).map(|(fields, pick)| pick.get(fields).as_str());
                fields.collect::<Vec<_>>().join(",")
            });
            std::iter::once(names).chain(rows).collect::<Vec<_>>().join(line_end)
        })
}

proptest! {
    #[test]
    fn any_csv_gives_the_same_rows_wherever_blocks_end(csv in csv_text(), block in 1_usize..80, batch_rows in 1_usize..10) {
        assert_same_as_read_csv(&csv, &ScanOptions { batch_rows, ..with_block(block) });
    }

    #[test]
    fn any_text_gives_the_same_result_wherever_blocks_end(csv in "[a-c0-9,\"\r\n. é-]{0,60}", block in 1_usize..80) {
        assert_same_as_read_csv(&csv, &with_block(block));
        let _ = batches(&text(&csv), &ScanOptions { block_bytes: block, ..expecting(&[("a", ColumnKind::Numeric)]) });
    }

    #[test]
    fn a_damaged_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = write_parquet(&sample()).unwrap().to_vec();
        *at.get_mut(&mut bytes) = byte;
        if let Ok(batches) = batches(&bytes.into(), &ScanOptions::default()) {
            for batch in batches {
                let _ = Table::from_batch(&batch.rows);
            }
        }
    }
}
