//! Rows that break the rules of a schema are counted, and the first ones named by their rows in the sources.

use chrono::DateTime;
use rekindle_dataset::{IngestOptions, Part, read_rows};
use rekindle_domain::dataset::{Cell, ColumnSchema, DatasetSchema};

use crate::support::{Input, ingested, options};

fn column(name: &str) -> ColumnSchema {
    ColumnSchema { name: name.to_owned(), ..ColumnSchema::default() }
}

fn of_columns(columns: Vec<ColumnSchema>) -> DatasetSchema {
    DatasetSchema { columns, ..DatasetSchema::default() }
}

/// The rules that rows of two sources break, each with its number of rows and its message.
fn broken(schema: DatasetSchema, until: Option<i64>) -> Vec<(String, u64, String)> {
    let inputs = [
        Input::csv("at,fare,kind,id,paid\n2013-01-04,5,a,1,true\n2013-01-03,-1,b,2,false\n2013-01-02,,c,2,true\n"),
        Input::csv("at,fare,kind,id,paid\n2013-01-01,900.5,a,1,false\n2013-01-01,7,,3,\n"),
    ];
    let until = until.and_then(|day| DateTime::from_timestamp(1_356_998_400 + (day - 1) * 86_400, 0));
    let options = IngestOptions { schema: Some(schema), time_column: Some("at".into()), until, ..options() };
    let violations = ingested(&inputs, &options).unwrap().violations;
    violations.into_iter().map(|violation| (violation.rule, violation.rows, violation.message)).collect()
}

#[test]
fn rows_are_named_by_their_number_in_the_sources() {
    let schema = of_columns(vec![
        ColumnSchema { required: true, min: Some(0.0), max: Some(500.0), ..column("fare") },
        ColumnSchema { allowed: ["a", "b"].map(str::to_owned).into(), required: true, ..column("kind") },
        ColumnSchema { allowed: ["true".to_owned()].into(), ..column("paid") },
    ]);
    let expected = [
        ("columns[fare].required", 1, "1 row is without a value: row 3"),
        ("columns[fare].min", 1, "1 row is less than 0: row 2 (-1)"),
        ("columns[fare].max", 1, "1 row is greater than 500: row 4 (900.5)"),
        ("columns[kind].required", 1, "1 row is without a value: row 5"),
        ("columns[kind].allowed", 1, "1 row is not among the allowed values: row 3 (c)"),
        ("columns[paid].allowed", 2, "2 rows are not among the allowed values: row 2 (false), row 4 (false)"),
    ];
    let expected = expected.map(|(rule, rows, message)| (rule.to_owned(), rows, message.to_owned()));
    assert_eq!(broken(schema.clone(), None), expected);
    // Rows out of the range are not registered, and not checked.
    let rules: Vec<String> = broken(schema, Some(2)).into_iter().map(|(rule, _, _)| rule).collect();
    assert_eq!(rules, ["columns[fare].max", "columns[kind].required", "columns[paid].allowed"]);
}

#[test]
fn keys_are_unique_over_all_sources_and_missing_parts_are_not_compared() {
    let unique = |keys: &[&[&str]]| DatasetSchema {
        unique: keys.iter().map(|key| key.iter().map(|name| (*name).to_owned()).collect()).collect(),
        ..DatasetSchema::default()
    };
    let found = broken(unique(&[&["id"], &["id", "kind"], &["kind", "at"]]), None);
    let id = "2 rows are equal to an earlier one in id: row 3 (as row 2), row 4 (as row 1)";
    let both = "1 row is equal to an earlier one in id, kind: row 4 (as row 1)";
    assert_eq!(found, [("unique[0]".to_owned(), 2, id.to_owned()), ("unique[1]".to_owned(), 1, both.to_owned())]);
    assert_eq!(broken(unique(&[&["fare"]]), None), []);
}

#[test]
fn at_most_ten_rows_are_named_and_values_of_sensitive_columns_are_not() {
    let rows: String = (0..25).map(|row| format!("{}\n", row - 30)).collect();
    let inputs = [Input::csv(&format!("n\n{rows}"))];
    let schema = of_columns(vec![ColumnSchema { min: Some(0.0), sensitive: true, ..column("n") }]);
    let made = ingested(&inputs, &IngestOptions { schema: Some(schema), ..options() }).unwrap();
    let [violation] = &made.violations[..] else { panic!("{:?}", made.violations) };
    assert_eq!(violation.rows, 25);
    assert!(violation.message.ends_with("row 9, row 10, and 15 more"), "{}", violation.message);
    assert!(!violation.message.contains('('), "{}", violation.message);
}

#[test]
fn a_schema_that_does_not_fit_the_columns_is_refused() {
    let inputs = [Input::csv("a,b\n1,x\n")];
    for (schema, named) in [
        (of_columns(vec![column("c")]), "c"),
        (of_columns(vec![ColumnSchema { min: Some(0.0), ..column("b") }]), "b"),
        (DatasetSchema { unique: vec![vec!["d".into()]], ..DatasetSchema::default() }, "d"),
    ] {
        let refused = ingested(&inputs, &IngestOptions { schema: Some(schema), ..options() }).unwrap_err();
        assert_eq!(refused.part, Part::Schema);
        assert!(refused.error.to_string().contains(&format!("{named:?}")), "{}", refused.error);
    }
}

#[test]
fn some_rows_are_read_back_without_hidden_columns() {
    let inputs =
        [Input::csv("at,n,x,flag,word\n2013-01-01,1,0.5,true,a\n2013-01-02,2,,false,b\n2013-01-03,3,1.5,,c\n")];
    let made = ingested(&inputs, &IngestOptions { time_column: Some("at".into()), ..options() }).unwrap();
    let (columns, rows) = read_rows(&made.parquet, (1, 5), |name| name == "word").unwrap();
    assert_eq!(columns, ["at", "n", "x", "flag", "word"]);
    let day = |day: i64| DateTime::from_timestamp(1_356_998_400 + (day - 1) * 86_400, 0).map(Cell::Time);
    let second = vec![day(2), Some(Cell::Integer(2)), None, Some(Cell::Boolean(false)), None];
    let third = vec![day(3), Some(Cell::Integer(3)), Some(Cell::Number(1.5)), None, None];
    assert_eq!(rows, [second, third]);
    assert!(read_rows(&made.parquet, (3, 5), |_| false).unwrap().1.is_empty());
}
