//! Jobs as they arrive, parsed into what they mean. A job that parses can still fail, but never for its form.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use prost::Message as _;
use rekindle_domain::{DatasetName, Digest, ExperimentName, ModelName, Recipe, RunId};
use rekindle_proto::{time, trainer as wire};

use crate::Error;

/// Rows below which a gate says no, unless it says otherwise.
const DEFAULT_MIN_ROWS: u64 = 200;
/// Rows that the ordered comparison needs.
const LEAST_ROWS: u64 = 20;
/// A gate's confidence, unless it says otherwise.
const DEFAULT_CONFIDENCE: f64 = 0.95;

/// Something to be done once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// Also the run's.
    pub id: RunId,
    pub experiment: ExperimentName,
    pub correlation_id: String,
    pub tags: BTreeMap<String, String>,
    pub dataset: DatasetName,
    /// 0 is the latest.
    pub dataset_version: u32,
    pub work: Work,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    Train(Train),
    Evaluate(Evaluate),
}

/// Learn a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Train {
    pub recipe: Recipe,
    /// Rows at or after this are not looked at.
    pub until: Option<DateTime<Utc>>,
    pub register_as: Option<ModelName>,
    pub description: String,
}

/// Compare two models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evaluate {
    pub champion: Digest,
    pub challenger: Digest,
    pub from: Option<DateTime<Utc>>,
    pub gate: Gate,
}

/// When a challenger is better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gate {
    /// Share of the champion's mean loss by which the challenger's must be lower.
    pub margin: f64,
    /// One-sided, in (0.5, 1).
    pub confidence: f64,
    pub min_rows: u64,
    pub slices: Vec<String>,
}

impl Job {
    /// Reads a job as it was submitted.
    pub(crate) fn parse(job: &wire::Job) -> Result<Self, Error> {
        let parsed = |field: &str, error: &dyn std::fmt::Display| Error::invalid(format!("job.{field}"), error);
        let (reference, work) = match &job.work {
            Some(wire::job::Work::Train(train)) => (&train.dataset, Work::Train(Train::parse(train)?)),
            Some(wire::job::Work::Evaluate(evaluate)) => {
                (&evaluate.dataset, Work::Evaluate(Evaluate::parse(evaluate)?))
            }
            None => return Err(Error::invalid("job.work", "must be train or evaluate")),
        };
        let dataset_field = format!("{}.dataset", work.field());
        let reference = reference.as_ref().ok_or_else(|| parsed(&dataset_field, &"name a dataset"))?;
        Ok(Self {
            id: job.id.parse().map_err(|error| parsed("id", &error))?,
            experiment: job.experiment.parse().map_err(|error| parsed("experiment", &error))?,
            correlation_id: job.correlation_id.clone(),
            tags: job.tags.clone().into_iter().collect(),
            dataset: reference.name.parse().map_err(|error| parsed(&format!("{dataset_field}.name"), &error))?,
            dataset_version: reference.version,
            work,
        })
    }

    /// Reads a job from the work queue.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Error> {
        Self::parse(&wire::Job::decode(payload).map_err(|error| Error::invalid("job", error))?)
    }

    /// Params of the job's run: all that decides its result, by dotted names.
    pub(crate) fn params(&self) -> BTreeMap<String, String> {
        let mut params = BTreeMap::from([
            ("work".to_owned(), self.work.field().to_owned()),
            ("dataset.name".to_owned(), self.dataset.to_string()),
            (DATASET_VERSION.to_owned(), self.dataset_version.to_string()),
        ]);
        let mut put = |name: &str, value: String| params.insert(name.to_owned(), value);
        match &self.work {
            Work::Train(train) => {
                put("train_until", train.until.map_or_else(String::new, |until| until.to_rfc3339()));
                let recipe = serde_json::to_value(&train.recipe).unwrap_or_default();
                flatten("recipe", &recipe, &mut params);
            }
            Work::Evaluate(evaluate) => {
                put("champion_bundle", evaluate.champion.to_string());
                put("challenger_bundle", evaluate.challenger.to_string());
                put("from", evaluate.from.map_or_else(String::new, |from| from.to_rfc3339()));
                put("gate.margin", evaluate.gate.margin.to_string());
                put("gate.confidence", evaluate.gate.confidence.to_string());
                put("gate.min_rows", evaluate.gate.min_rows.to_string());
                put("gate.slices", evaluate.gate.slices.join(","));
            }
        }
        params
    }

    /// The seed of whatever is drawn.
    pub(crate) fn seed(&self) -> u64 {
        match &self.work {
            Work::Train(train) => train.recipe.seed,
            Work::Evaluate(_) => 0,
        }
    }
}

/// Name of the param that holds the dataset's version, once 0 was resolved.
pub(crate) const DATASET_VERSION: &str = "dataset.version";

fn flatten(name: &str, value: &serde_json::Value, params: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| flatten(&format!("{name}.{field}"), value, params));
        }
        serde_json::Value::String(text) => {
            params.insert(name.to_owned(), text.clone());
        }
        other => {
            params.insert(name.to_owned(), other.to_string());
        }
    }
}

impl Work {
    /// As the field of the job is called.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Evaluate(_) => "evaluate",
        }
    }
}

impl Train {
    fn parse(train: &wire::TrainWork) -> Result<Self, Error> {
        const RECIPE: &str = "job.train.recipe_json";
        let recipe: Recipe = serde_json::from_str(&train.recipe_json).map_err(|error| Error::invalid(RECIPE, error))?;
        recipe.validate().map_err(|error| Error::invalid(RECIPE, error))?;
        let register_as = Some(train.register_as.as_str()).filter(|name| !name.is_empty());
        let register_as = register_as.map(str::parse).transpose();
        Ok(Self {
            recipe,
            until: optional_time("job.train.train_until", train.train_until)?,
            register_as: register_as.map_err(|error| Error::invalid("job.train.register_as", error))?,
            description: train.description.clone(),
        })
    }
}

impl Evaluate {
    fn parse(evaluate: &wire::EvaluateWork) -> Result<Self, Error> {
        let digest = |field: &str, text: &str| {
            text.parse().map_err(|error| Error::invalid(format!("job.evaluate.{field}"), error))
        };
        Ok(Self {
            champion: digest("champion_bundle", &evaluate.champion_bundle)?,
            challenger: digest("challenger_bundle", &evaluate.challenger_bundle)?,
            from: optional_time("job.evaluate.from", evaluate.from)?,
            gate: Gate::parse(evaluate.gate.as_ref().unwrap_or(&wire::Gate::default()))?,
        })
    }
}

impl Gate {
    /// Zero stands for the default of each field.
    fn parse(gate: &wire::Gate) -> Result<Self, Error> {
        let confidence = if gate.confidence == 0.0 { DEFAULT_CONFIDENCE } else { gate.confidence };
        if !(confidence > 0.5 && confidence < 1.0) {
            return Err(Error::invalid("job.evaluate.gate.confidence", "must be above 0.5 and below 1, e.g. 0.95"));
        }
        if !(0.0..1.0).contains(&gate.margin) {
            return Err(Error::invalid("job.evaluate.gate.margin", "must be a share: zero or more and below 1"));
        }
        let min_rows = if gate.min_rows == 0 { DEFAULT_MIN_ROWS } else { gate.min_rows.max(LEAST_ROWS) };
        Ok(Self { margin: gate.margin, confidence, min_rows, slices: gate.slices.clone() })
    }

    /// As it travels in an evaluation: with the defaults filled in.
    pub(crate) fn to_wire(&self) -> wire::Gate {
        wire::Gate {
            margin: self.margin,
            confidence: self.confidence,
            min_rows: self.min_rows,
            slices: self.slices.clone(),
        }
    }
}

fn optional_time(field: &str, given: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>, Error> {
    let parse =
        |given| time::from_wire(given).ok_or_else(|| Error::invalid(field, "is no time between the years 1 and 9999"));
    given.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(recipe: &str) -> wire::Job {
        wire::Job {
            id: "0193b3a0-0000-7000-8000-000000000000".into(),
            experiment: "nightly".into(),
            work: Some(wire::job::Work::Train(wire::TrainWork {
                dataset: Some(wire::DatasetRef { name: "flights".into(), version: 3 }),
                recipe_json: recipe.into(),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn field(job: &wire::Job) -> String {
        match Job::parse(job) {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("expected an invalid field, got {other:?}"),
        }
    }

    #[test]
    fn params_hold_all_that_decides() {
        let job = Job::parse(&train(r#"{"target":"late","seed":7}"#)).expect("valid");
        let params = job.params();
        assert_eq!(params["recipe.target"], "late");
        assert_eq!(params["recipe.seed"], "7");
        assert_eq!(params["recipe.architecture.kind"], "mlp");
        assert_eq!(params[DATASET_VERSION], "3");
        assert_eq!(job.seed(), 7);
    }

    #[test]
    fn each_bad_field_is_named() {
        assert_eq!(field(&train("{")), "job.train.recipe_json");
        assert_eq!(field(&train(r#"{"target":"late","epochs":3}"#)), "job.train.recipe_json");
        assert_eq!(field(&train(r#"{"target":"late","patience":0}"#)), "job.train.recipe_json");
        let good = train(r#"{"target":"late"}"#);
        assert_eq!(field(&wire::Job { id: "1".into(), ..good.clone() }), "job.id");
        assert_eq!(field(&wire::Job { experiment: "Not A Name".into(), ..good.clone() }), "job.experiment");
        assert_eq!(field(&wire::Job { work: None, ..good }), "job.work");
    }

    #[test]
    fn a_gate_has_defaults_and_bounds() {
        let gate = Gate::parse(&wire::Gate::default()).expect("defaults");
        assert_eq!(gate, Gate { margin: 0.0, confidence: 0.95, min_rows: 200, slices: vec![] });
        for bad in [
            wire::Gate { confidence: 0.4, ..Default::default() },
            wire::Gate { confidence: f64::NAN, ..Default::default() },
            wire::Gate { margin: -0.1, ..Default::default() },
            wire::Gate { margin: 1.0, ..Default::default() },
        ] {
            assert!(Gate::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
