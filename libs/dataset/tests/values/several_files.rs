//! Several files of one dataset: the columns of any file, in types that hold the values of all, whatever their order.

use arrow::datatypes::DataType;
use rekindle_dataset::{IngestOptions, preview, type_name};
use rekindle_domain::dataset::SourceColumns;

use crate::support::{csv, options, register, sections};

/// The values of a column in two files, the type of both, and the values.
const WIDENED: [(&str, &str, &str, &[&str]); 9] = [
    ("1", "2", "Int64", &["1", "2"]),
    ("1", "2.5", "Float64", &["1.0", "2.5"]),
    ("1", "2.0", "Int64", &["1", "2"]),
    ("1", "A2", "Utf8", &["1", "A2"]),
    ("1.0", "A2", "Utf8", &["1.0", "A2"]),
    ("true", "x", "Utf8", &["true", "x"]),
    ("true", "1", "Boolean", &["true", "true"]),
    ("2024-03-01", "1709251200000", "Timestamp(ms)", &["2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z"]),
    ("2024-03-01 10:30", "x", "Utf8", &["2024-03-01 10:30", "x"]),
];

#[test]
fn types_are_widened_whatever_the_order_of_files() {
    for (one, other, data_type, values) in WIDENED {
        let files = [one, other].map(|value| csv(&format!("v,w\n{value},x\n")));
        let both = register(&files, &options()).unwrap();
        assert_eq!(both.v(), (data_type, values.iter().map(ToString::to_string).collect()));
        let [first, second] = files;
        let mut turned = register(&[second, first], &options()).unwrap().v();
        turned.1.reverse();
        assert_eq!(turned, both.v());
        let none = csv("v,w\n,x\n");
        let with_none =
            register(&[none, csv(&format!("v,w\n{one},x\n")), csv(&format!("v,w\n{other},x\n"))], &options());
        assert_eq!(with_none.unwrap().v().0, data_type, "a file without a value does not widen");
    }
}

#[test]
fn a_column_that_a_file_lacks_is_missing_in_its_rows() {
    let files = [csv("a,b\n1,x\n"), csv("c,a\n2024-03-01,2\n"), csv("b,a,c\ny,3,2024-03-02\n")];
    let made = register(&files, &options()).unwrap();
    assert_eq!(made.table.schema.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(made.column("a"), ("Int64", ["1", "2", "3"].map(str::to_owned).to_vec()));
    assert_eq!(made.column("b"), ("Utf8", ["x", "-", "y"].map(str::to_owned).to_vec()));
    let times = ["-", "2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z"];
    assert_eq!(made.column("c"), ("Timestamp(ms)", times.map(str::to_owned).to_vec()));
    let common = register(&files, &IngestOptions { columns: SourceColumns::Common, ..options() }).unwrap();
    assert_eq!(common.table.schema.names().collect::<Vec<_>>(), ["a"]);

    let unrelated = register(&[files[0].clone(), csv("x,y\n1,2\n")], &options()).unwrap_err();
    assert!(unrelated.contains("no column in common"), "{unrelated}");
    let by_time = IngestOptions { time_column: Some("c".into()), ..options() };
    let without = register(&files, &by_time).unwrap_err();
    assert!(without.contains("source 0 has no column \"c\", which orders the rows; its columns are a, b"), "{without}");
}

#[test]
fn the_preview_has_the_type_in_each_file() {
    let files = [csv("a,b,n\n1,x,1\n"), csv("a,n\n,0.5\n")];
    let planned = preview(&sections(&files), &options()).unwrap().columns;
    let found_types = planned.iter().map(|column| {
        let found = column.sources.iter().map(|found| match found {
            None => "lacks",
            Some(DataType::Null) => "no value",
            Some(found) => type_name(found),
        });
        (column.name.as_str(), found.collect::<Vec<_>>(), type_name(&column.data_type))
    });
    assert_eq!(
        found_types.collect::<Vec<_>>(),
        [
            ("a", vec!["Int64", "no value"], "Int64"),
            ("b", vec!["Utf8", "lacks"], "Utf8"),
            ("n", vec!["Int64", "Float64"], "Float64"),
        ]
    );
}
