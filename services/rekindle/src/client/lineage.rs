//! `rekindle lineage`: from a prediction, a model version or a bundle to its run, datasets and code; and a replay of the prediction.

mod graph;

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use rekindle_bundle::{Bundle, Datatype, Input, Model, Values};
use rekindle_client::{inference::Elements, wire};
use rekindle_domain::{
    DatasetName, Digest, IdPrefix, ModelName, PredictionId,
    dataset::DatasetVersion,
    lineage::{Extent, Lineage},
    model_version::VersionSelector,
    outcome::Label,
    prediction_log::{LoggedPrediction, Value},
};
use serde_json::json;

use super::{
    Global,
    output::{self, Fields, number, numbers, when},
    parse,
    platform::Platform,
    tensor::{plain, to_json},
    upload::download,
};

/// The arguments of `rekindle lineage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rekindle lineage 0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e --replay
  rekindle lineage flight-delay@3
  rekindle lineage sha256:…
  rekindle lineage dataset:flights@2 --results
  rekindle lineage flight-delay@champion --graph svg >lineage.svg")]
pub(crate) struct Args {
    /// Prediction id, model version (MODEL@VERSION, MODEL@ALIAS) or bundle digest; of a graph also run:ID or dataset:NAME@VERSION
    subject: Subject,
    /// Show what the subject was made from and what was made from it, step by step
    #[arg(long, value_name = "FORM", num_args = 0..=1, default_missing_value = "tree", conflicts_with = "replay")]
    graph: Option<graph::Form>,
    /// Only what was made from the subject, e.g. the models and aliases of a dataset; a graph
    #[arg(long, conflicts_with = "sources")]
    results: bool,
    /// Only what the subject was made from; a graph
    #[arg(long)]
    sources: bool,
    /// Row of the prediction request
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::whole::<u32>)]
    row: u32,
    /// Recompute the prediction with the registered bundle and compare it bit by bit; exit with code 3 if it differs
    #[arg(long)]
    replay: bool,
}

#[derive(Debug, Clone)]
enum Subject {
    Prediction(PredictionId),
    Version { model: ModelName, selector: VersionSelector },
    Bundle(Digest),
    Run(IdPrefix),
    Dataset(DatasetName, Option<u32>),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Prediction(id));
        }
        if text.starts_with("sha256:") {
            return text
                .parse()
                .map(Self::Bundle)
                .map_err(|error: rekindle_domain::digest::InvalidDigest| error.to_string());
        }
        if let Some(id) = text.strip_prefix("run:") {
            return id
                .parse()
                .map(Self::Run)
                .map_err(|error: rekindle_domain::id_prefix::InvalidIdPrefix| error.to_string());
        }
        if let Some(dataset) = text.strip_prefix("dataset:") {
            let (name, version) = dataset.split_once('@').map_or((dataset, None), |(name, of)| (name, Some(of)));
            let name = name.parse().map_err(|error: rekindle_domain::name::InvalidName| error.to_string())?;
            let version = version.map(parse::whole).transpose()?;
            return Ok(Self::Dataset(name, version));
        }
        let (model, selector) = match text.split_once('@') {
            Some((model, version)) => (model, parse::version(version)?),
            None => (text, VersionSelector::Latest),
        };
        let model = model.parse().map_err(|error: rekindle_domain::name::InvalidName| error.to_string())?;
        Ok(Self::Version { model, selector })
    }
}

/// Prints the lineage. Returns whether a replay gave the same bits; without one, true.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let registry = platform.registry();
    let is_graph = args.graph.is_some() || args.results || args.sources;
    if is_graph || matches!(args.subject, Subject::Run(_) | Subject::Dataset(..)) {
        let form = args.graph.unwrap_or(graph::Form::Tree);
        let extent = Extent { sources: !args.results, results: !args.sources };
        graph::print(&platform, args.subject, (form, extent), global).await?;
        return Ok(true);
    }
    let (logged, bundle) = match args.subject {
        Subject::Run(_) | Subject::Dataset(..) => unreachable!("these have a graph alone"),
        Subject::Prediction(id) => {
            let logged = platform.monitor().prediction(id, args.row).await?;
            let bundle = logged.version.bundle;
            (Some(logged), bundle)
        }
        Subject::Version { model, selector } => (None, registry.model_version(&model, &selector).await?.bundle),
        Subject::Bundle(digest) => (None, digest),
    };
    let lineage = registry.lineage(bundle).await?;
    let comparison = match (&logged, args.replay) {
        (Some(logged), true) => Some(replay(logged, &platform).await?),
        (None, true) => bail!("--replay requires a prediction id"),
        (_, false) => None,
    };
    print(logged.as_ref(), bundle, &lineage, comparison.as_deref(), global);
    Ok(comparison.is_none_or(|outputs| outputs.iter().all(Compared::is_same)))
}

/// One output: as logged, and as replayed.
struct Compared {
    name: String,
    datatype: Datatype,
    then: Vec<u8>,
    now: Vec<u8>,
    /// How far numbers may differ: [`Model::tolerance`].
    tolerance: f32,
}

impl Compared {
    fn has_same_bits(&self) -> bool {
        self.then == self.now
    }

    /// Whether the output is what the model may answer to the row: the row was part of a batch.
    fn is_same(&self) -> bool {
        let numbers = |raw: &[u8]| raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>();
        let is_close = |(then, now): (&f32, &f32)| (then - now).abs() <= self.tolerance * then.abs().max(1.0);
        let is_rounded = self.datatype == Datatype::Fp32
            && self.then.len() == self.now.len()
            && numbers(&self.then).iter().zip(&numbers(&self.now)).all(is_close);
        self.has_same_bits() || (self.tolerance > 0.0 && is_rounded)
    }

    fn verdict(&self) -> &'static str {
        match (self.has_same_bits(), self.is_same()) {
            (true, _) => "identical bits",
            (false, true) => "equal up to rounding",
            (false, false) => "BITS DIFFER",
        }
    }

    /// The elements of raw contents; null if they are not elements of the type.
    fn value(&self, raw: &[u8]) -> serde_json::Value {
        let datatype = self.datatype.as_str().parse().ok();
        let elements = datatype.and_then(|datatype| Elements::decode(datatype, raw).ok());
        elements.map(|elements| to_json(&elements)).unwrap_or_default()
    }
}

/// Predicts a logged row again with the bundle in the registry, whose every blob is verified.
async fn replay(logged: &LoggedPrediction, platform: &Platform) -> Result<Vec<Compared>> {
    if let Some(found) = logged.guardrails.as_ref().filter(|found| found.contains("clip")) {
        bail!(
            "the row cannot be replayed: guardrails have changed it ({found}), and the log has its inputs as they were received"
        );
    }
    let bundle = Bundle::load(&logged.version.bundle, |digest, _| download(platform.registry(), digest)).await?;
    let model = Model::from_bundle(&bundle)?;
    let prediction = model.predict(&row(&model.signature().inputs, &logged.inputs)?)?;
    let outputs = model.signature().outputs.iter().zip(&prediction.outputs);
    let compared = outputs.map(|(output, values)| Compared {
        name: output.name.clone(),
        datatype: output.datatype,
        then: logged.outputs.get(&output.name).cloned().unwrap_or_default(),
        now: elements(values).encode().to_vec(),
        tolerance: model.tolerance(),
    });
    Ok(compared.collect())
}

fn elements(values: &Values) -> Elements {
    match values {
        Values::Fp32 { values, .. } => Elements::Fp32(values.clone()),
        Values::Text(texts) => Elements::Text(texts.iter().map(|text| text.to_string()).collect()),
    }
}

/// A batch of one row. An input without an entry is missing.
fn row(inputs: &[Input], values: &BTreeMap<String, Value>) -> Result<RecordBatch> {
    let columns = inputs.iter().map(|input| {
        let column = column(input.datatype, values.get(&input.name));
        let column = column.with_context(|| format!("logged input {:?}", input.name))?;
        Ok((Field::new(&input.name, column.data_type().clone(), true), column))
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn column(datatype: Datatype, value: Option<&Value>) -> Result<ArrayRef> {
    Ok(match (datatype, value) {
        (Datatype::Int64, Some(&Value::Integer(value))) => Arc::new(Int64Array::from(vec![value])),
        (Datatype::Int64, None) => Arc::new(Int64Array::from(vec![None])),
        (Datatype::Fp64, Some(&Value::Number(value))) => Arc::new(Float64Array::from(vec![value])),
        (Datatype::Fp64, None) => Arc::new(Float64Array::from(vec![None])),
        (Datatype::Bytes, Some(Value::Text(value))) => Arc::new(StringArray::from(vec![value.as_str()])),
        (Datatype::Bytes, None) => Arc::new(StringArray::from(vec![None::<&str>])),
        (Datatype::Bool, Some(&Value::Boolean(value))) => Arc::new(BooleanArray::from(vec![value])),
        (Datatype::Bool, None) => Arc::new(BooleanArray::from(vec![None])),
        (expected, found) => bail!("is {found:?}: the model requires {expected}"),
    })
}

fn print(
    logged: Option<&LoggedPrediction>,
    bundle: Digest,
    lineage: &Lineage,
    replay: Option<&[Compared]>,
    global: &Global,
) {
    if global.json {
        output::print_json(&json!({
            "prediction": logged.map(wire::prediction_log::to_json),
            "bundle_digest": bundle.to_string(),
            "code_revision": lineage.run.as_ref().map(|run| &run.code_revision),
            "lineage": wire::lineage::to_json(lineage),
            "replay": replay.map(|outputs| outputs.iter().map(compared_json).collect::<Vec<_>>()),
        }));
        return;
    }
    output::print_fields(&fields(logged, bundle, lineage));
    output::emit("");
    let header = ["dataset", "rows", "from", "until", "content", "parents"];
    output::print_table(&header, lineage.datasets.iter().map(dataset_line));
    for output in replay.unwrap_or_default() {
        let (then, now) = (plain(&output.value(&output.then)), plain(&output.value(&output.now)));
        output::emit(&format!("\n{}: replayed {now}, logged {then}: {}", output.name, output.verdict()));
    }
}

fn compared_json(output: &Compared) -> serde_json::Value {
    json!({
        "output": output.name,
        "then": output.value(&output.then),
        "now": output.value(&output.now),
        "same_bits": output.has_same_bits(),
        "same": output.is_same(),
    })
}

fn dataset_line(dataset: &DatasetVersion) -> Vec<String> {
    let parents: Vec<_> = dataset.parents.iter().map(Digest::short).collect();
    vec![
        format!("{} version {}", dataset.name, dataset.version),
        dataset.rows.to_string(),
        when(dataset.time_range.map(|(first, _)| first)),
        when(dataset.time_range.map(|(_, last)| last)),
        dataset.content.short(),
        parents.join(" "),
    ]
}

fn fields(logged: Option<&LoggedPrediction>, bundle: Digest, lineage: &Lineage) -> Fields {
    let mut fields = Fields::new();
    if let Some(logged) = logged {
        fields.extend([
            ("prediction", format!("{} row {}", logged.prediction, logged.row)),
            ("answered", format!("{} by {}", when(logged.answered_at), logged.replica)),
            ("event time", when(logged.event_time)),
            ("version", format!("{} version {}", logged.model, logged.version.version)),
            ("outcome", logged.label.as_ref().map(label).unwrap_or_default()),
        ]);
        fields.extend(logged.guardrails.clone().map(|found| ("guardrails", found)));
    }
    let versions = lineage.versions.iter().map(|version| format!("{} version {}", version.model, version.version));
    fields.extend([("bundle", bundle.to_string()), ("registered as", versions.collect::<Vec<_>>().join(", "))]);
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

fn label(label: &Label) -> String {
    match label {
        Label::Class(class) => class.clone(),
        Label::Number(value) => number(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_prediction_a_bundle_or_a_version() {
        assert!(matches!("0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e".parse(), Ok(Subject::Prediction(_))));
        assert!(matches!(Digest::of(b"").to_string().parse(), Ok(Subject::Bundle(_))));
        assert!("sha256:12".parse::<Subject>().is_err() && "m@0".parse::<Subject>().is_err());
        let Ok(Subject::Version { model, selector }) = "flight-delay@champion".parse() else { panic!("a version") };
        assert_eq!((model.as_str(), selector), ("flight-delay", parse::version("champion").expect("an alias")));
        let latest = "flight-delay".parse();
        assert!(matches!(latest, Ok(Subject::Version { selector: VersionSelector::Latest, .. })));
    }

    #[test]
    fn numbers_of_an_onnx_model_may_be_rounded_otherwise() {
        let compared = |then: f32, now: f32, tolerance| {
            let raw = |number: f32| number.to_le_bytes().to_vec();
            let (name, datatype) = ("probability".to_owned(), Datatype::Fp32);
            Compared { name, datatype, then: raw(then), now: raw(now), tolerance }.verdict()
        };
        assert_eq!(compared(0.5, 0.5, 0.0), "identical bits");
        assert_eq!(compared(0.5, 0.500_001, 0.0), "BITS DIFFER");
        assert_eq!(compared(0.5, 0.500_001, 1e-5), "equal up to rounding");
        assert_eq!(compared(0.5, 0.501, 1e-5), "BITS DIFFER");
    }

    #[test]
    fn logged_values_become_columns_of_the_input_types() {
        assert!(column(Datatype::Fp64, Some(&Value::Number(1.5))).is_ok());
        assert_eq!(column(Datatype::Bytes, None).expect("missing").null_count(), 1);
        assert!(column(Datatype::Int64, Some(&Value::Text("1".into()))).is_err());
    }
}
