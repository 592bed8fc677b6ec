//! Outcomes as rows of a chunk.

use std::sync::Arc;

use arrow::{
    array::{
        Array, AsArray, FixedSizeBinaryArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
        UInt32Array, UInt64Array,
    },
    datatypes::{
        DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType, UInt32Type, UInt64Type,
    },
};

use rekindle_domain::outcome::Label;

use super::columns::{Keys, PREDICTION_ID, ROW, column, missing, texts};
use crate::{
    Error,
    outcome::{Key, Position, ReportedLabel},
};

/// A column of the position, by its name and by the name that chunks of the first release have.
#[derive(Clone, Copy)]
struct Renamed {
    name: &'static str,
    first: &'static str,
}

const REPORTED_AT: Renamed = Renamed { name: "reported_at", first: "told_at" };
const REPORTED_SEQUENCE: Renamed = Renamed { name: "reported_sequence", first: "told_sequence" };
const REPORTED_LINE: Renamed = Renamed { name: "reported_line", first: "told_line" };

impl Renamed {
    fn of(self, batch: &RecordBatch) -> Result<&dyn Array, Error> {
        column(batch, self.name).or_else(|error| column(batch, self.first).map_err(|_| error))
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(PREDICTION_ID, DataType::FixedSizeBinary(16), false),
        Field::new(ROW, DataType::UInt32, false),
        Field::new("label", DataType::Utf8, true),
        Field::new("number", DataType::Float64, true),
        Field::new(REPORTED_AT.name, DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
        Field::new(REPORTED_SEQUENCE.name, DataType::UInt64, false),
        Field::new(REPORTED_LINE.name, DataType::UInt32, false),
    ]))
}

/// The rows of an outcome chunk, sorted by the rows that they are about.
pub fn batch(outcomes: &[ReportedLabel]) -> Result<RecordBatch, Error> {
    let mut outcomes: Vec<&ReportedLabel> = outcomes.iter().collect();
    outcomes.sort_by_key(|reported| reported.row.key);
    let class = |label: &Label| match label {
        Label::Class(class) => Some(class.clone()),
        Label::Number(_) => None,
    };
    let number = |label: &Label| match label {
        Label::Class(_) => None,
        Label::Number(number) => Some(*number),
    };
    let keys = || outcomes.iter().map(|reported| reported.row.key);
    let labels = || outcomes.iter().map(|reported| &reported.row.label);
    let positions = || outcomes.iter().map(|reported| reported.position);
    let ids = FixedSizeBinaryArray::try_from_iter(keys().map(|key| key.prediction.to_be_bytes()))?;
    let reported_at: TimestampNanosecondArray = positions().map(|position| Some(position.at)).collect();
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(ids),
            Arc::new(keys().map(|key| Some(key.row)).collect::<UInt32Array>()),
            Arc::new(labels().map(class).collect::<StringArray>()),
            Arc::new(labels().map(number).collect::<Float64Array>()),
            Arc::new(reported_at.with_timezone("UTC")),
            Arc::new(positions().map(|position| Some(position.sequence)).collect::<UInt64Array>()),
            Arc::new(positions().map(|position| Some(position.line)).collect::<UInt32Array>()),
        ],
    )?)
}

/// Calls `visit` for each outcome of a batch. The label is built on request only: most outcomes belong to other rows.
pub fn visit(batch: &RecordBatch, mut visit: impl FnMut(Key, Position, &dyn Fn() -> Label)) -> Result<(), Error> {
    let keys = Keys::of(batch)?;
    let classes = texts(batch, "label")?;
    let numbers =
        column(batch, "number")?.as_primitive_opt::<Float64Type>().ok_or_else(|| missing("number", "double"))?;
    let at = REPORTED_AT
        .of(batch)?
        .as_primitive_opt::<TimestampNanosecondType>()
        .ok_or_else(|| missing(REPORTED_AT.name, "timestamp in nanoseconds"))?;
    let sequences = REPORTED_SEQUENCE
        .of(batch)?
        .as_primitive_opt::<UInt64Type>()
        .ok_or_else(|| missing(REPORTED_SEQUENCE.name, "uint64"))?;
    let lines = REPORTED_LINE
        .of(batch)?
        .as_primitive_opt::<UInt32Type>()
        .ok_or_else(|| missing(REPORTED_LINE.name, "uint32"))?;
    for index in 0..keys.rows() {
        let position = Position { at: at.value(index), sequence: sequences.value(index), line: lines.value(index) };
        let label = || match classes.is_valid(index) {
            true => Label::Class(classes.value(index).to_owned()),
            false => Label::Number(numbers.value(index)),
        };
        visit(keys.key(index), position, &label);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        chunk::{Kind, encode, read},
        outcome::RowLabel,
    };

    fn reported() -> Vec<ReportedLabel> {
        let labels = [Label::Class("late".into()), Label::Number(2.5)];
        let reported = |(label, line): (Label, u32)| ReportedLabel {
            position: Position { at: i64::from(line) * 7, sequence: 9, line },
            row: RowLabel { key: Key { prediction: u128::MAX - 3 + u128::from(line), row: line }, label },
        };
        labels.into_iter().zip(1..).map(reported).collect()
    }

    /// An outcome of the first row of a prediction.
    pub(in crate::chunk) fn of_id(prediction: u128) -> ReportedLabel {
        let row = RowLabel { key: Key { prediction, row: 0 }, label: Label::Number(1.0) };
        ReportedLabel { position: Position { at: 0, sequence: 1, line: 1 }, row }
    }

    fn visited(batch: &RecordBatch) -> Vec<ReportedLabel> {
        let mut visited = Vec::new();
        let push = |key, position, label: &dyn Fn() -> Label| {
            visited.push(ReportedLabel { position, row: RowLabel { key, label: label() } });
        };
        visit(batch, push).expect("columns of an outcome chunk");
        visited
    }

    #[test]
    fn outcomes_round_trip_through_a_chunk() {
        let outcomes = reported();
        let bytes = encode(&batch(&outcomes).expect("one batch"), Kind::Outcome).expect("a Parquet file");
        let mut decoded = Vec::new();
        for batch in read(bytes, |_| true).expect("a Parquet file") {
            let batch = batch.expect("readable");
            assert_eq!(Keys::of(&batch).expect("keys").id_range(), Some((u128::MAX - 2, u128::MAX - 1)));
            decoded.extend(visited(&batch));
        }
        assert_eq!(decoded, outcomes);
    }

    #[test]
    fn chunks_of_the_first_release_are_readable() {
        let outcomes = reported();
        let batch = batch(&outcomes).expect("one batch");
        let first_release = |field: &Arc<Field>| {
            let columns = [REPORTED_AT, REPORTED_SEQUENCE, REPORTED_LINE];
            let renamed = columns.into_iter().find(|column| column.name == field.name());
            renamed.map_or_else(|| field.clone(), |column| Arc::new(field.as_ref().clone().with_name(column.first)))
        };
        let fields: Vec<Arc<Field>> = batch.schema().fields().iter().map(first_release).collect();
        let stored = RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec()).expect("renamed");
        assert!(stored.column_by_name("told_sequence").is_some());
        assert_eq!(visited(&stored), outcomes);
    }
}
