//! Every value of a random table is the same in the file, the request, the log, the export and the next version of the dataset.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use proptest::{collection::vec, prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};
use rekindle_client::inference::{Elements, InferRequest, Parameter, Tensor};
use rekindle_dataset::{Table, read_parquet};
use rekindle_domain::{
    ColumnKind, Digest, PredictionId,
    dataset::{DatasetRegistration, FileFormat, Source},
    event_time,
    outcome::{Label, Outcome, PredictedRow},
    prediction_log::{self, ExportRequest, LoggedPrediction},
};
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    scenario::{self, dataset, model},
};

/// Tables, each in a namespace of its own.
const TABLES: u32 = 4;
/// Rows of the training data.
const TRAINED: usize = 80;
/// Rows that are sent to the model.
const SENT: usize = 40;
/// Rows of one request.
const PER_REQUEST: usize = 7;
/// 2024-01-01T00:00:00Z, in milliseconds.
const START: i64 = 1_704_067_200_000;
const HOUR: i64 = 3_600_000;

/// A value of any kind.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Text(String),
    Instant(i64),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Integer,
    Number,
    Boolean,
    Text,
    Instant,
}

/// A column: its name, and its values, of which some may be missing.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
    has_holes: bool,
    values: Vec<Option<Value>>,
}

/// Texts that other systems take for something else.
const TEXTS: [&str; 12] =
    ["007", "1.0", "1e3", "+1", "1", "true", "2024-01-01", "Žižkov", "a,b", "\"quoted\"", " ", "x"];

fn value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Integer => any::<i64>().prop_map(Value::Integer).boxed(),
        Kind::Number => any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Number).boxed(),
        Kind::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Kind::Text => select(&TEXTS[..]).prop_map(|text| Value::Text(text.to_owned())).boxed(),
        Kind::Instant => (0..2_000_000_000_000i64).prop_map(Value::Instant).boxed(),
    }
}

/// The value that makes the type of a column in a text file.
fn typical(kind: Kind) -> Value {
    match kind {
        Kind::Integer => Value::Integer(12_345_678_901_234_567),
        Kind::Number => Value::Number(0.5),
        Kind::Boolean => Value::Boolean(true),
        Kind::Text => Value::Text("typical".to_owned()),
        Kind::Instant => Value::Instant(1),
    }
}

fn column(index: usize) -> impl Strategy<Value = Column> {
    let kinds = select(&[Kind::Integer, Kind::Number, Kind::Boolean, Kind::Text, Kind::Instant][..]);
    (kinds, any::<bool>()).prop_flat_map(move |(kind, has_holes)| {
        let cell = if has_holes {
            prop::option::weighted(0.8, value(kind)).boxed()
        } else {
            value(kind).prop_map(Some).boxed()
        };
        let values = vec(cell, TRAINED + SENT);
        values.prop_map(move |mut values| {
            values[0] = Some(typical(kind));
            // The model has seen a hole.
            if has_holes {
                values[1] = None;
            }
            Column { name: format!("c{index}"), kind, has_holes, values }
        })
    })
}

/// Three to six columns of random kinds.
fn columns() -> impl Strategy<Value = Vec<Column>> {
    (3..=6usize).prop_flat_map(|count| (0..count).map(column).collect::<Vec<_>>())
}

fn time(row: usize) -> i64 {
    START + i64::try_from(row).expect("few") * HOUR
}

fn instant(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).expect("in range").to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The class of a row: a code, whose spelling matters.
fn class(row: usize) -> &'static str {
    ["01", "02", "03"][row % 3]
}

fn csv(columns: &[Column], rows: std::ops::Range<usize>) -> String {
    let mut text = "time".to_owned();
    columns.iter().for_each(|column| write!(text, ",{}", column.name).expect("a String"));
    text += ",bought\n";
    for row in rows {
        text += &instant(time(row));
        for column in columns {
            match &column.values[row] {
                None => text.push(','),
                Some(Value::Integer(integer)) => write!(text, ",{integer}").expect("a String"),
                Some(Value::Number(number)) => write!(text, ",{number:?}").expect("a String"),
                Some(Value::Boolean(boolean)) => write!(text, ",{boolean}").expect("a String"),
                Some(Value::Text(value)) => write!(text, ",\"{}\"", value.replace('"', "\"\"")).expect("a String"),
                Some(Value::Instant(millis)) => write!(text, ",{}", instant(*millis)).expect("a String"),
            }
        }
        writeln!(text, ",{}", class(row)).expect("a String");
    }
    text
}

/// The tensors of some rows of a column. What is missing has a placeholder, and a second tensor marks it.
fn tensors(column: &Column, rows: std::ops::Range<usize>) -> Vec<Tensor> {
    let values = &column.values[rows];
    let integers = |of: fn(&Value) -> i64| values.iter().map(|value| value.as_ref().map_or(0, of)).collect::<Vec<_>>();
    let elements = match column.kind {
        Kind::Integer => Elements::Int64(integers(|value| if let Value::Integer(x) = value { *x } else { 0 })),
        Kind::Instant => Elements::Int64(integers(|value| if let Value::Instant(x) = value { *x } else { 0 })),
        Kind::Number => {
            let number = |value: &Option<Value>| if let Some(Value::Number(x)) = value { *x } else { f64::NAN };
            Elements::Fp64(values.iter().map(number).collect())
        }
        Kind::Boolean => Elements::Bool(values.iter().map(|value| *value == Some(Value::Boolean(true))).collect()),
        Kind::Text => {
            let text = |value: &Option<Value>| if let Some(Value::Text(x)) = value { x.clone() } else { String::new() };
            Elements::Text(values.iter().map(text).collect())
        }
    };
    let valid = Elements::Bool(values.iter().map(Option::is_some).collect());
    let marked = column.has_holes.then(|| Tensor::column(format!("{}.valid", column.name), valid));
    [Tensor::column(column.name.clone(), elements)].into_iter().chain(marked).collect()
}

/// The id of the request that begins with a row.
fn request_id(first: usize) -> String {
    format!("order-{first}")
}

/// What a row is about.
fn entity(row: usize) -> String {
    format!("customer {}", row % 3)
}

/// The outcome of a row, which the prediction id, the request's id or the entity key names in turn.
fn outcome(prediction: PredictionId, first: usize, row: usize) -> Outcome {
    let index = u32::try_from(row - first).expect("few rows");
    let named = match row % 3 {
        0 => PredictedRow::Prediction { id: prediction, row: index },
        1 => PredictedRow::Request { id: request_id(first), row: index },
        _ => PredictedRow::Entity { key: entity(row), event_time: event_time::clamped(time(row)) },
    };
    Outcome { row: named, label: Label::Class(class(row).to_owned()) }
}

fn request(columns: &[Column], rows: std::ops::Range<usize>) -> InferRequest {
    let times = Tensor::column("time", Elements::Int64(rows.clone().map(time).collect()));
    let entities = Tensor::column("entity_key", Elements::Text(rows.clone().map(entity).collect()));
    let features = columns.iter().flat_map(|column| tensors(column, rows.clone()));
    InferRequest {
        model: model().to_string(),
        id: request_id(rows.start),
        parameters: [("traffic".to_owned(), Parameter::Text("replay".to_owned()))].into(),
        inputs: [times, entities].into_iter().chain(features).collect(),
        ..InferRequest::default()
    }
}

async fn register(clients: &Clients, sources: Vec<(String, FileFormat)>, blob: Option<Digest>) -> (Table, ColumnKind) {
    let registry = clients.registry();
    let mut uploaded = Vec::new();
    for (text, format) in sources {
        let (digest, _) = registry
            .upload_bytes(rekindle_client::registry::UploadPurpose::DatasetSource, text.into())
            .await
            .expect("uploaded");
        uploaded.push(Source { digest, format });
    }
    uploaded.extend(blob.map(|digest| Source { digest, format: FileFormat::Parquet }));
    let digest = uploaded[0].digest;
    let registration = DatasetRegistration {
        sources: uploaded,
        time_column: Some("time".into()),
        ..scenario::registration(dataset(), digest)
    };
    let version = registry
        .register_dataset(&registration, format!("{} files", registration.sources.len()))
        .await
        .expect("registered");
    let table = read_parquet(scenario::download(clients, version.blob).await).expect("canonical");
    let target = version.columns.iter().find(|column| column.name == "bought").expect("the target");
    (table, target.kind)
}

/// The value of a cell of a canonical table.
fn cell(table: &Table, name: &str, row: usize) -> Option<Value> {
    use arrow::{
        array::{Array as _, AsArray as _},
        datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
    };
    let column = table.column(name).expect("there");
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::Timestamp(..) => Value::Instant(column.as_primitive::<TimestampMillisecondType>().value(row)),
        other => panic!("{other} is no canonical type"),
    })
}

/// A table has these rows, in the order of time.
fn assert_rows(what: &str, table: &Table, columns: &[Column], rows: std::ops::Range<usize>) {
    assert_eq!(table.rows(), rows.len(), "{what}");
    for (at, row) in rows.enumerate() {
        assert_eq!(cell(table, "time", at), Some(Value::Instant(time(row))), "{what}, row {row}");
        assert_eq!(cell(table, "bought", at), Some(Value::Text(class(row).to_owned())), "{what}, row {row}");
        for column in columns {
            assert_eq!(cell(table, &column.name, at), column.values[row], "{what}, row {row} of {column:?}");
        }
    }
}

fn logged(prediction: &LoggedPrediction, column: &Column) -> Option<Value> {
    Some(match prediction.inputs.get(&column.name)?.clone() {
        prediction_log::Value::Integer(millis) if matches!(column.kind, Kind::Instant) => Value::Instant(millis),
        prediction_log::Value::Integer(integer) => Value::Integer(integer),
        prediction_log::Value::Number(number) => Value::Number(number),
        prediction_log::Value::Boolean(boolean) => Value::Boolean(boolean),
        prediction_log::Value::Text(text) => Value::Text(text),
    })
}

/// Registers, trains, predicts, reports outcomes, exports and registers again.
async fn keeps_every_value(clients: &Clients, columns: &[Column]) {
    let trained = csv(columns, 0..TRAINED);
    let (table, kind) = register(clients, vec![(trained.clone(), FileFormat::Csv)], None).await;
    assert_rows("the training data", &table, columns, 0..TRAINED);
    assert_eq!(kind, ColumnKind::Categorical);
    let (_, version) = scenario::train_with(clients, &uuid(), scenario::recipe_of(7, 2)).await;
    scenario::promote_and_deploy(clients, version.version).await;

    let (replica, monitor) = (clients.replica(0), clients.monitor());
    let all: Vec<usize> = (TRAINED..TRAINED + SENT).collect();
    for rows in all.chunks(PER_REQUEST) {
        let rows = rows[0]..rows[0] + rows.len();
        let answer = replica.infer(request(columns, rows.clone())).await.expect("answered");
        let prediction = answer.prediction().expect("an id");
        let outcomes: Vec<Outcome> = rows.clone().map(|row| outcome(prediction, rows.start, row)).collect();
        monitor.report_outcomes(&model(), &outcomes, "").await.expect("accepted");
        let captured = (rows.end - TRAINED) as u64;
        scenario::captured(clients, captured).await;
        scenario::matched(clients, captured).await;
        for (index, row) in (0..).zip(rows) {
            let found = monitor.prediction(prediction, index).await.expect("logged");
            for column in columns {
                assert_eq!(logged(&found, column), column.values[row], "the log, row {row} of {column:?}");
            }
        }
    }
    let export = ExportRequest {
        model: model(),
        from: None,
        until: None,
        target: "bought".into(),
        time_column: "time".into(),
        holdout_share: 0.0,
    };
    let exported = monitor.export_labelled(&export).await.expect("exported").blob.expect("rows");
    let table = read_parquet(scenario::download(clients, exported).await).expect("canonical");
    assert_rows("the export", &table, columns, TRAINED..TRAINED + SENT);
    let (table, kind) = register(clients, vec![(trained, FileFormat::Csv)], Some(exported)).await;
    assert_rows("the next version", &table, columns, 0..TRAINED + SENT);
    assert_eq!(kind, ColumnKind::Categorical);
}

/// A run id that no other table has.
fn uuid() -> String {
    rekindle_domain::RunId::new(uuid::Uuid::now_v7()).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_tables_keep_every_value_through_the_whole_loop() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let mut random = TestRunner::deterministic();
    for table in 0..TABLES {
        let columns = columns().new_tree(&mut random).expect("a table").current();
        keeps_every_value(&platform.clients.within(&format!("table-{table}")), &columns).await;
    }
}
