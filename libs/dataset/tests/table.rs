//! Tables: kinds, sorting and slicing by time, concatenation, and summaries.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::collections::BTreeMap;

use arrow::{array::AsArray as _, datatypes::Int64Type};
use bytes::Bytes;
use chrono::DateTime;
use rekindle_dataset::{Error, Table, read_csv, summarise, type_name};
use rekindle_domain::{ColumnKind, dataset::ColumnSummary};

fn csv(text: &str) -> Table {
    read_csv(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn kinds(pairs: &[(&str, ColumnKind)]) -> BTreeMap<String, ColumnKind> {
    pairs.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
}

fn ints(table: &Table, column: &str) -> Vec<Option<i64>> {
    table.column(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn texts(table: &Table, column: &str) -> Vec<Option<String>> {
    table.column(column).unwrap().as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn kinds_change_types_without_loss() {
    let table = csv("area,code,flag,at,half\n7,01,1,1000,0.5\n,2,0,2000,1.5\n");
    let changed = table
        .with_kinds(&kinds(&[
            ("area", ColumnKind::Categorical),
            ("code", ColumnKind::Numeric),
            ("flag", ColumnKind::Boolean),
            ("at", ColumnKind::Timestamp),
            ("half", ColumnKind::Numeric),
        ]))
        .unwrap();
    let types: Vec<_> = changed.schema.columns.iter().map(|column| type_name(&column.data_type)).collect();
    assert_eq!(types, ["Utf8", "Int64", "Boolean", "Timestamp(ms)", "Float64"]);
    assert_eq!(texts(&changed, "area"), [Some("7".to_owned()), None]);
    assert_eq!(changed.times("at").unwrap(), [1000, 2000]);
    let seconds = csv("at\n1704067200\n1704067201\n").with_kinds(&kinds(&[("at", ColumnKind::Timestamp)])).unwrap();
    assert_eq!(seconds.times("at").unwrap(), [1_704_067_200_000, 1_704_067_201_000]);
    let categories = table.with_kinds(&kinds(&[("half", ColumnKind::Categorical)])).unwrap();
    assert_eq!(texts(&categories, "half"), [Some("0.5".to_owned()), Some("1.5".to_owned())]);
    let message = table.with_kinds(&kinds(&[("half", ColumnKind::Boolean)])).unwrap_err().to_string();
    assert_eq!(message, "column \"half\", row 0: 0.5 cannot be converted to Boolean without loss");
    let message = table.with_kinds(&kinds(&[("nope", ColumnKind::Numeric)])).unwrap_err().to_string();
    assert!(message.contains("\"nope\"") && message.contains("area, code"), "{message}");
}

#[test]
fn sorting_by_time_is_stable_and_slices_are_half_open() {
    let table = csv("t,n\n2013-01-03,1\n2013-01-01,2\n2013-01-03,3\n2013-01-02,4\n");
    let sorted = table.sort_by_time("t").unwrap();
    assert_eq!(ints(&sorted, "n"), [Some(2), Some(4), Some(1), Some(3)]);
    let day = |day: i64| Some(DateTime::from_timestamp_millis(1_356_998_400_000 + (day - 1) * 86_400_000).unwrap());
    let sliced = table.slice_time("t", day(2), day(3)).unwrap();
    assert_eq!(ints(&sliced, "n"), [Some(4)]);
    assert_eq!(table.slice_time("t", None, None).unwrap().rows(), 4);
    assert_eq!(table.time_range("t").unwrap(), day(1).zip(day(3)));
    assert_eq!(table.slice(0, 0).time_range("t").unwrap(), None);
    assert!(matches!(table.sort_by_time("n"), Err(Error::Type { .. })));
    let gap = csv("t,n\n2013-01-03,1\n,2\n");
    assert!(matches!(gap.sort_by_time("t"), Err(Error::MissingTime { row: 1, .. })));
}

#[test]
fn concat_keeps_common_columns_in_types_that_hold_all_values() {
    let base = csv("n,label,flag,at,only\n1,1,true,2013-01-01T00:00:00Z,x\n,0,false,2013-01-02T00:00:00Z,y\n");
    let captured = csv("at,flag,label,n,extra\n1357171200000,1,1,3.0,z\n1357171200001,0,\"0\",,z\n");
    let label_text = captured.with_kinds(&kinds(&[("label", ColumnKind::Categorical)])).unwrap();
    let both = Table::concat(&[base.clone(), label_text]).unwrap();
    assert_eq!(both.schema.names().collect::<Vec<_>>(), ["n", "label", "flag", "at"]);
    assert_eq!(ints(&both, "n"), [Some(1), None, Some(3), None], "whole floats beside integers");
    assert_eq!(texts(&both, "label"), ["1", "0", "1", "0"].map(|label| Some(label.to_owned())));
    assert_eq!(both.times("at").unwrap()[2..], [1_357_171_200_000, 1_357_171_200_001]);
    assert!(!both.column("flag").unwrap().as_boolean().value(3));
    let types = |one: &str, other: &str| {
        let types = |tables: [Table; 2]| Table::concat(&tables).unwrap().schema.columns[0].data_type.to_string();
        let (one, other) = (csv(&format!("n\n{one}\n")), csv(&format!("n\n{other}\n")));
        let both = types([one.clone(), other.clone()]);
        assert_eq!(both, types([other, one]), "the order is irrelevant");
        both
    };
    assert_eq!(
        (types("3", "3.5"), types("3", "x"), types("3.5", "x")),
        ("Float64".into(), "Utf8".into(), "Utf8".into())
    );
    assert_eq!(
        (types("true", "x"), types("2013-01-01", "x"), types("true", "1")),
        ("Utf8".into(), "Utf8".into(), "Boolean".into())
    );
}

#[test]
fn concat_refuses_incompatible_tables() {
    assert!(Table::concat(&[]).is_err());
    assert!(Table::concat(&[csv("a\n1\n"), csv("b\n1\n")]).is_err());
    let message = Table::concat(&[csv("a\ntrue\n"), csv("a\n7\n")]).unwrap_err().to_string();
    assert!(message.contains("row 0: 7 cannot be converted to Boolean"), "{message}");
    let wide = Table::concat(&[csv("a\n0.5\n"), csv("a\n9007199254740993\n")]).unwrap_err().to_string();
    assert!(wide.contains("9007199254740993 cannot be converted to Float64"), "{wide}");
}

#[test]
fn a_column_without_values_concatenates_with_any_type() {
    let joined = Table::concat(&[csv("a,b\n1,1\n"), csv("a,b\n,2\n")]).unwrap();
    assert_eq!(ints(&joined, "a"), [Some(1), None]);
}

#[test]
fn columns_are_projected() {
    let table = csv("a,b,c\n1,2,3\n");
    assert_eq!(table.project(&["c", "a"]).unwrap().schema.names().collect::<Vec<_>>(), ["c", "a"]);
    assert!(matches!(table.project(&["d"]), Err(Error::NoColumn { .. })));
    assert!(matches!(table.project(&["a", "a"]), Err(Error::DuplicateColumn { .. })));
    assert_eq!(table.slice(5, 5).rows(), 0);
}

#[test]
fn every_column_has_a_summary() {
    let columns = summarise(&csv("n,s,big,void\n1,a,1e308,\n2,b,-1e308,\n2,b,inf,\n,,0,\n"));
    let find = |name: &str| columns.iter().find(|column| column.name == name).unwrap();
    let n = find("n");
    assert_eq!((n.missing, n.distinct, n.min, n.max), (1, 2, Some(1.0), Some(2.0)));
    assert!((n.mean.unwrap() - 5.0 / 3.0).abs() < 1e-12 && (n.std.unwrap() - 3.0_f64.sqrt() / 3.0).abs() < 1e-12);
    let s = find("s");
    assert_eq!((s.mean, s.top[0].value.as_str(), s.top[0].count), (None, "b", 2));
    let big = find("big");
    assert_eq!((big.max, big.mean), (Some(1e308), Some(0.0)));
    assert!(big.std.unwrap().is_finite());
    let void = find("void");
    assert_eq!((void.missing, void.distinct, void.top.len()), (4, 0, 0));
    let finite = |column: &ColumnSummary| {
        [column.min, column.max, column.mean, column.std].into_iter().flatten().all(f64::is_finite)
    };
    assert!(columns.iter().all(finite));
}
