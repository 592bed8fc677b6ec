//! Rows generated from a seed, a model trained on such rows, and the messages in which a replica logs its predictions.

use std::{ops::ControlFlow, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
    },
    datatypes::{DataType, Schema},
};
use bytes::Bytes;
use rekindle_bundle::{Bundle, Model, Values};
use rekindle_dataset::{
    prediction_log::{self, Header},
    read_csv,
};
use rekindle_domain::{
    Digest, ModelName, PredictionId, Recipe,
    outcome::{Label, Outcome},
    recipe::{LinearRecipe, ModelRecipe, Optimizer},
};
use rekindle_training::{Origin, TrainInput, train};
use uuid::Uuid;

pub(crate) const DAY: i64 = 86_400_000;
/// 2024-01-01 UTC.
pub(crate) const START: i64 = 1_704_067_200_000;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    /// Its row within the request.
    pub(crate) row: u32,
    pub(crate) time: i64,
    /// How far the event time lies ahead of the answer, in milliseconds.
    pub(crate) ahead: i64,
    pub(crate) distance: f64,
    pub(crate) carrier: &'static str,
    pub(crate) late: bool,
    /// The client's id of the request.
    pub(crate) request_id: Option<String>,
    pub(crate) entity_key: Option<String>,
}

impl Row {
    pub(crate) fn prediction(&self) -> PredictionId {
        PredictionId::new(self.id)
    }

    pub(crate) fn label(&self) -> Label {
        Label::Class(u8::from(self.late).to_string())
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::new(self.prediction(), self.row, self.label())
    }
}

/// The distribution that rows are drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Distribution {
    /// That of the training data.
    Reference,
    /// Distances are greater, and short ones are late instead of long ones.
    Shifted,
}

/// A small generator (Steele, Lea and Flood 2014), so that rows follow from the seed alone.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `count` rows spread evenly over `[from, until)`.
pub(crate) fn rows(seed: u64, count: usize, from: i64, until: i64, distribution: Distribution) -> Vec<Row> {
    let mut random = Random(seed);
    let row = |index: usize| {
        let bell = (0..6).map(|_| random.unit()).sum::<f64>() - 3.0;
        let shift = match distribution {
            Distribution::Reference => 0.0,
            Distribution::Shifted => 1.5,
        };
        let distance = 100.0 + 40.0 * (bell + shift);
        let slope = match distribution {
            Distribution::Reference => 3.0,
            Distribution::Shifted => -3.0,
        };
        let chance = 1.0 / (1.0 + (-slope * bell).exp());
        Row {
            id: Uuid::now_v7(),
            row: 0,
            time: from + (until - from) * i64::try_from(index).expect("small") / i64::try_from(count).expect("small"),
            ahead: 0,
            distance,
            carrier: ["AA", "BB", "CC"][(random.unit() * 3.0) as usize],
            late: random.unit() < chance,
            request_id: None,
            entity_key: None,
        }
    };
    (0..count).map(row).collect()
}

/// A model of the reference distribution.
pub(crate) fn bundle() -> Bundle {
    let mut csv = String::from("at,distance,carrier,late\n");
    for row in rows(7, 4000, START - 40 * DAY, START, Distribution::Reference) {
        let at = chrono::DateTime::from_timestamp_millis(row.time).expect("in range").format("%Y-%m-%dT%H:%M:%SZ");
        csv += &format!("{at},{},{},{}\n", row.distance, row.carrier, u8::from(row.late));
    }
    let table = read_csv(csv.into()).expect("well-formed");
    let optimizer = Optimizer { max_epochs: 12, learning_rate: 0.02, ..Optimizer::default() };
    let recipe = Recipe { model: ModelRecipe::Linear(LinearRecipe { optimizer }), ..Recipe::for_target("late") };
    let origin = Origin { run_id: Uuid::nil().to_string(), dataset_digests: Vec::new(), code_revision: "test".into() };
    train(&TrainInput { table: &table, time_column: Some("at"), recipe: &recipe }, &origin, |_| {
        ControlFlow::Continue(())
    })
    .expect("trains")
}

/// A replica that logs its predictions.
pub(crate) struct Replica {
    pub(crate) model: Model,
    pub(crate) name: ModelName,
    pub(crate) version: u32,
    pub(crate) bundle: Digest,
    pub(crate) incarnation: Uuid,
    pub(crate) sequence: u64,
    /// Whether the rows are test rows.
    pub(crate) is_test: bool,
}

/// A message to publish: its id and its bytes.
pub(crate) type Message = (String, Bytes);

impl Replica {
    pub(crate) fn new(bundle: &Bundle, name: &str, version: u32) -> Self {
        Self {
            model: Model::from_bundle(bundle).expect("a valid bundle"),
            name: name.parse().expect("a valid name"),
            version,
            bundle: bundle.digest().expect("canonical"),
            incarnation: Uuid::now_v7(),
            sequence: 0,
            is_test: false,
        }
    }

    /// The messages for rows, 250 each, each declaring `lost_before` rows lost.
    pub(crate) fn log(&mut self, rows: &[Row], lost_before: u64) -> Vec<Message> {
        rows.chunks(250).map(|rows| self.message(&self.batch(rows), lost_before)).collect()
    }

    /// A message without rows, with columns as for `like`.
    pub(crate) fn log_lost(&mut self, like: &[Row], lost_before: u64) -> Message {
        self.message(&self.batch(like).slice(0, 0), lost_before)
    }

    fn message(&mut self, batch: &RecordBatch, lost_before: u64) -> Message {
        self.sequence += 1;
        let header = Header {
            model: self.name.clone(),
            model_version: self.version,
            bundle_digest: self.bundle,
            replica: "replica-1".parse().expect("a valid name"),
            incarnation: self.incarnation,
            sequence: self.sequence,
            lost_before,
            unsampled_before: 0,
            is_test: self.is_test,
        };
        let bytes = prediction_log::encode(&header, batch).expect("columns of the log");
        (header.message_id(), bytes)
    }

    /// The inputs. A distance that is not a number is missing, with another in its place where the model answers: it accepts none without.
    fn inputs(&self, rows: &[Row], in_place: Option<f64>) -> Vec<(String, ArrayRef)> {
        let column = |name: &str| -> ArrayRef {
            match name {
                "at" => Arc::new(rows.iter().map(|row| Some(row.time)).collect::<Int64Array>()),
                "distance" => Arc::new({
                    let value = |row: &Row| Some(row.distance).filter(|distance| !distance.is_nan()).or(in_place);
                    rows.iter().map(value).collect::<Float64Array>()
                }),
                _ => Arc::new(rows.iter().map(|row| Some(row.carrier)).collect::<StringArray>()),
            }
        };
        let inputs = &self.model.signature().inputs;
        inputs.iter().map(|input| (input.name.clone(), column(&input.name))).collect()
    }

    fn batch(&self, rows: &[Row]) -> RecordBatch {
        let inputs = self.inputs(rows, None);
        let asked = RecordBatch::try_from_iter(self.inputs(rows, Some(100.0))).expect("columns");
        let answered = self.model.predict(&asked).expect("answers");
        let outputs: Vec<(String, ArrayRef)> = (self.model.signature().outputs.iter().zip(answered.outputs))
            .map(|(output, values)| {
                let values: ArrayRef = match values {
                    Values::Fp32 { values, .. } => Arc::new(Float32Array::from(values)),
                    Values::Text(texts) => Arc::new(StringArray::from_iter_values(texts)),
                };
                (output.name.clone(), values)
            })
            .collect();
        let typed = |columns: &[(String, ArrayRef)]| -> Vec<(String, DataType)> {
            columns.iter().map(|(name, values)| (name.clone(), values.data_type().clone())).collect()
        };
        let (input_types, output_types) = (typed(&inputs), typed(&outputs));
        let schema = prediction_log::schema(
            input_types.iter().map(|(name, kind)| (name.as_str(), kind.clone())),
            output_types.iter().map(|(name, kind)| (name.as_str(), kind.clone())),
        );
        let times: TimestampMillisecondArray = rows.iter().map(|row| Some(row.time)).collect();
        let answered: TimestampMicrosecondArray = rows.iter().map(|row| Some((row.time - row.ahead) * 1000)).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| *row.id.as_bytes())).expect("16 bytes")),
            Arc::new(rows.iter().map(|row| Some(row.row)).collect::<UInt32Array>()),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(answered.with_timezone("UTC")),
        ];
        columns.extend(inputs.into_iter().chain(outputs).map(|(_, values)| values));
        let mut fields = schema.fields().to_vec();
        for (name, keys) in [
            (prediction_log::REQUEST_ID, rows.iter().map(|row| row.request_id.clone()).collect::<StringArray>()),
            (prediction_log::ENTITY_KEY, rows.iter().map(|row| row.entity_key.clone()).collect()),
        ] {
            if keys.null_count() < keys.len() {
                fields.push(Arc::new(prediction_log::optional_field(name)));
                columns.push(Arc::new(keys));
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of the log")
    }
}

/// Labels of rows, as lines of an outcome message.
pub(crate) fn labels(rows: &[Row]) -> String {
    let line = |row: &Row| format!("{{\"prediction_id\":\"{}\",\"label\":\"{}\"}}\n", row.id, u8::from(row.late));
    rows.iter().map(line).collect()
}
