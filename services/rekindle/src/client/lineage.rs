//! `rekindle lineage`: from an answer back to the version, run, datasets and code it came from, and to the same bits again.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use rekindle_domain::Digest;
use rekindle_model::{Bundle, Datatype, Input, Model, Values};
use rekindle_proto::{
    json,
    monitor::{GetPredictionRequest, LoggedPrediction, Outcome, Value, outcome::Truth, value},
    registry::{GetLineageRequest, Lineage},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Global,
    connection::Connection,
    models,
    output::{self, Fields, numbers, when},
    predict::{decode, plain},
    upload::download,
};

/// What to walk back from.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rekindle lineage 0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e --replay
  rekindle lineage flight-delay@3
  rekindle lineage sha256:…")]
pub(crate) struct Args {
    /// A prediction's id, a model's version (MODEL@VERSION, MODEL@ALIAS) or a bundle's digest
    from: From,
    /// The row of the prediction's request
    #[arg(long, value_name = "N", default_value_t = 0)]
    row: u32,
    /// Answer the logged inputs again from the registered bundle, and compare the bits; ends with 3 where they differ
    #[arg(long)]
    replay: bool,
}

#[derive(Debug, Clone)]
enum From {
    Prediction(Uuid),
    Version { model: String, version: Option<String> },
    Bundle(Digest),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Prediction(id));
        }
        if text.starts_with("sha256:") {
            return text
                .parse()
                .map(Self::Bundle)
                .map_err(|problem: rekindle_domain::digest::InvalidDigest| problem.to_string());
        }
        let (model, version) = match text.split_once('@') {
            Some((model, version)) => (model, Some(version.to_owned())),
            None => (text, None),
        };
        Ok(Self::Version { model: model.to_owned(), version })
    }
}

/// Walks back. Returns whether a replay, if there was one, gave the same bits.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let connection = global.connect()?;
    let (logged, bundle) = match args.from {
        From::Prediction(id) => {
            let request = GetPredictionRequest { prediction_id: id.to_string(), row: args.row };
            let logged = connection.monitor().get_prediction(request).await?.into_inner();
            let bundle = logged.bundle_digest.clone();
            (Some(logged), bundle)
        }
        From::Version { model, version } => (None, models::get(&connection, model, version).await?.bundle_digest),
        From::Bundle(digest) => (None, digest.to_string()),
    };
    let request = GetLineageRequest { bundle_digest: bundle.clone() };
    let lineage = connection.models().get_lineage(request).await?.into_inner();
    let comparison = match (&logged, args.replay) {
        (Some(logged), true) => Some(replay(logged, &bundle, &connection).await?),
        (None, true) => bail!("--replay needs a prediction: a version by itself has answered nothing"),
        (_, false) => None,
    };
    print(logged.as_ref(), &bundle, &lineage, comparison.as_deref(), global);
    Ok(comparison.is_none_or(|outputs| outputs.iter().all(Compared::same)))
}

/// One output, as it was answered then and now.
struct Compared {
    name: String,
    datatype: Datatype,
    then: Vec<u8>,
    now: Vec<u8>,
}

impl Compared {
    fn same(&self) -> bool {
        self.then == self.now
    }

    fn value(&self, raw: &[u8]) -> serde_json::Value {
        decode(self.datatype.as_str(), raw).unwrap_or_default()
    }
}

/// Answers a logged row again, from the bundle as the registry has it now; every byte of it is verified on the way.
async fn replay(logged: &LoggedPrediction, bundle: &str, connection: &Connection) -> Result<Vec<Compared>> {
    let digest: Digest = bundle.parse().context("the logged bundle")?;
    let bundle = Bundle::load(&digest, |digest| download(connection.artifacts(), digest)).await?;
    let model = Model::from_bundle(&bundle)?;
    let prediction = model.predict(&row(&model.signature().inputs, &logged.inputs)?)?;
    let outputs = model.signature().outputs.iter().zip(&prediction.outputs);
    let compared = outputs.map(|(output, values)| Compared {
        name: output.name.clone(),
        datatype: output.datatype,
        then: logged.outputs.get(&output.name).cloned().unwrap_or_default(),
        now: elements(values),
    });
    Ok(compared.collect())
}

/// The elements as they are sent: little-endian singles, texts after their length.
fn elements(values: &Values) -> Vec<u8> {
    match values {
        Values::Fp32 { values, .. } => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Values::Text(texts) => {
            let sized = |text: &Arc<str>| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
            texts.iter().flat_map(sized).collect()
        }
    }
}

/// A batch of one row. What has no entry is missing.
fn row(inputs: &[Input], values: &HashMap<String, Value>) -> Result<RecordBatch> {
    let columns = inputs.iter().map(|input| {
        let value = values.get(&input.name).and_then(|value| value.value.clone());
        let column = column(input.datatype, value).with_context(|| format!("logged input {:?}", input.name))?;
        Ok((Field::new(&input.name, column.data_type().clone(), true), column))
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn column(datatype: Datatype, value: Option<value::Value>) -> Result<ArrayRef> {
    use value::Value::{Boolean, Integer, Number, Text};
    Ok(match (datatype, value) {
        (Datatype::Int64, Some(Integer(value))) => Arc::new(Int64Array::from(vec![value])),
        (Datatype::Int64, None) => Arc::new(Int64Array::from(vec![None])),
        (Datatype::Fp64, Some(Number(value))) => Arc::new(Float64Array::from(vec![value])),
        (Datatype::Fp64, None) => Arc::new(Float64Array::from(vec![None])),
        (Datatype::Bytes, Some(Text(value))) => Arc::new(StringArray::from(vec![value])),
        (Datatype::Bytes, None) => Arc::new(StringArray::from(vec![None::<&str>])),
        (Datatype::Bool, Some(Boolean(value))) => Arc::new(BooleanArray::from(vec![value])),
        (Datatype::Bool, None) => Arc::new(BooleanArray::from(vec![None])),
        (expected, found) => bail!("holds {found:?}, the model takes {expected}"),
    })
}

fn print(
    logged: Option<&LoggedPrediction>,
    bundle: &str,
    lineage: &Lineage,
    replay: Option<&[Compared]>,
    global: &Global,
) {
    if global.json {
        let outputs = replay.map(|outputs| {
            let output = |output: &Compared| {
                json!({ "output": output.name, "then": output.value(&output.then), "now": output.value(&output.now), "same_bits": output.same() })
            };
            outputs.iter().map(output).collect::<serde_json::Value>()
        });
        output::print_json(&json!({
            "prediction": logged.map(json::to_value),
            "bundle_digest": bundle,
            "code_revision": lineage.run.as_ref().map(|run| &run.code_revision),
            "lineage": json::to_value(lineage),
            "replay": outputs,
        }));
        return;
    }
    output::print_fields(&fields(logged, bundle, lineage));
    output::emit("");
    let lines = lineage.datasets.iter().map(|dataset| {
        let parents = dataset.parents.iter().map(|parent| output::short(parent)).collect::<Vec<_>>();
        vec![
            format!("{} version {}", dataset.name, dataset.version),
            dataset.rows.to_string(),
            when(dataset.time_min),
            when(dataset.time_max),
            output::short(&dataset.content_digest),
            parents.join(" "),
        ]
    });
    output::print_table(&["dataset", "rows", "from", "until", "content", "came from"], lines);
    for output in replay.unwrap_or_default() {
        let (then, now) = (plain(&output.value(&output.then)), plain(&output.value(&output.now)));
        let verdict = if output.same() { "the same bits" } else { "OTHER BITS" };
        output::emit(&format!("\nreplayed {}: {now}, answered then: {then}: {verdict}", output.name));
    }
}

fn fields(logged: Option<&LoggedPrediction>, bundle: &str, lineage: &Lineage) -> Fields {
    let mut fields = Fields::new();
    if let Some(logged) = logged {
        fields.extend([
            ("prediction", format!("{} row {}", logged.prediction_id, logged.row)),
            ("answered", format!("{} by {}", when(logged.answered_at), logged.replica)),
            ("event time", when(logged.event_time)),
            ("version", format!("{} version {}", logged.model, logged.model_version)),
            ("outcome", logged.outcome.as_ref().map(truth).unwrap_or_default()),
        ]);
    }
    let versions = lineage.versions.iter().map(|version| format!("{} version {}", version.model, version.version));
    fields.extend([("bundle", bundle.to_owned()), ("registered as", versions.collect::<Vec<_>>().join(", "))]);
    if let Some(version) = lineage.versions.first() {
        fields.push(("metrics", numbers(&version.metrics)));
    }
    if let Some(run) = &lineage.run {
        fields.extend([
            ("run", format!("{} of {}, {}", run.id, run.experiment, when(run.started_at))),
            ("code revision", run.code_revision.clone()),
            ("seed", run.seed.to_string()),
        ]);
    }
    fields
}

fn truth(outcome: &Outcome) -> String {
    match &outcome.truth {
        Some(Truth::Label(label)) => label.clone(),
        Some(Truth::Number(number)) => output::number(*number),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it_is_understood() {
        assert!(matches!("0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e".parse(), Ok(From::Prediction(_))));
        assert!(matches!(Digest::of(b"").to_string().parse(), Ok(From::Bundle(_))));
        assert!("sha256:12".parse::<From>().is_err());
        let Ok(From::Version { model, version }) = "flight-delay@champion".parse() else { panic!("a version") };
        assert_eq!((model.as_str(), version.as_deref()), ("flight-delay", Some("champion")));
    }

    #[test]
    fn logged_values_become_the_models_types() {
        assert!(column(Datatype::Fp64, Some(value::Value::Number(1.5))).is_ok());
        assert_eq!(column(Datatype::Bytes, None).expect("missing").null_count(), 1);
        assert!(column(Datatype::Int64, Some(value::Value::Text("1".into()))).is_err());
    }
}
