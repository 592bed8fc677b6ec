//! What the run of a job records about it.

use std::collections::BTreeMap;

use humantime_serde::re::humantime::format_duration;
use rekindle_client::wire;
use rekindle_domain::{
    Digest,
    job::{Job, Priority, Work},
};

use rekindle_training::{Epoch, Trial};

use crate::{Error, watch::Points};

/// Name of the param that holds the number of the dataset version.
pub(crate) const DATASET_VERSION: &str = "dataset.version";

/// Name of the param that holds the checks of the gate, as a JSON list.
pub(crate) const CHECKS: &str = "gate.checks";

/// The params of the run of a job: everything that decides its result, by dotted names.
pub(crate) fn params(job: &Job) -> BTreeMap<String, String> {
    let version = job.dataset.version.map(|version| version.to_string());
    let mut params = BTreeMap::from([
        ("work".to_owned(), job.work.kind().to_owned()),
        ("dataset.name".to_owned(), job.dataset.name.to_string()),
        (DATASET_VERSION.to_owned(), version.unwrap_or_default()),
    ]);
    let mut put = |name: &str, value: String| params.insert(name.to_owned(), value);
    match &job.work {
        Work::Train(train) => {
            put("train_until", train.until.map_or_else(String::new, |until| until.to_rfc3339()));
            if let Some(limit) = train.time_limit {
                put("time_limit", format_duration(limit).to_string());
            }
            flatten("recipe", &json(&train.recipe), &mut params);
            if let Some(external) = &train.external {
                flatten("external", &json(external), &mut params);
            }
            if train.search.is_needed() {
                flatten("search", &json(&train.search), &mut params);
            }
        }
        Work::Evaluate(evaluate) => {
            put("champion_bundle", evaluate.champion.to_string());
            put("challenger_bundle", evaluate.challenger.to_string());
            put("from", evaluate.from.map_or_else(String::new, |from| from.to_rfc3339()));
            put("requirement", evaluate.requirement.name().to_owned());
            put("gate.margin", evaluate.gate.margin.to_string());
            put("gate.confidence", evaluate.gate.confidence.to_string());
            put("gate.min_rows", evaluate.gate.min_rows.to_string());
            put("gate.slices", evaluate.gate.slices.join(","));
            put(CHECKS, json(&evaluate.gate.checks).to_string());
        }
    }
    params
}

/// The params of the nested run of a trial.
pub(crate) fn trial_params(job: &Job, trial: &Trial) -> BTreeMap<String, String> {
    let mut params = BTreeMap::from([
        ("work".to_owned(), "trial".to_owned()),
        ("trial".to_owned(), trial.number.to_string()),
        ("dataset.name".to_owned(), job.dataset.name.to_string()),
        (DATASET_VERSION.to_owned(), job.dataset.version.map(|version| version.to_string()).unwrap_or_default()),
    ]);
    flatten("recipe", &json(&trial.recipe), &mut params);
    params
}

/// The metrics of an epoch.
pub(crate) fn epoch_points(epoch: &Epoch) -> Points {
    let mut values = epoch.metrics.clone();
    values.insert("train_loss".to_owned(), epoch.train_loss);
    Points { step: i64::from(epoch.epoch), values }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The seed of everything that is drawn at random.
pub(crate) fn seed(job: &Job) -> u64 {
    match &job.work {
        Work::Train(train) => train.recipe.seed,
        Work::Evaluate(_) => 0,
    }
}

/// The digest of what a job requests: the same for every submission of it, whatever its correlation id and its priority.
pub(crate) fn digest(job: &Job) -> Result<Digest, Error> {
    let requested = Job { correlation_id: String::new(), priority: Priority::Normal, ..job.clone() };
    let json = serde_json_canonicalizer::to_vec(&wire::job::to_json(&requested));
    json.map(|json| Digest::of(&json)).map_err(|error| Error::invalid("job", error))
}

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

#[cfg(test)]
mod tests {
    use rekindle_domain::{
        Recipe,
        job::{DatasetRef, Train},
    };

    use super::*;

    fn job() -> Job {
        let recipe = Recipe { seed: 7, ..Recipe::for_target("late") };
        Job {
            id: "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id"),
            experiment: "nightly".parse().expect("a name"),
            correlation_id: String::new(),
            tags: BTreeMap::new(),
            priority: Priority::Normal,
            dataset: DatasetRef { name: "flights".parse().expect("a name"), version: Some(3) },
            work: Work::Train(Train {
                recipe,
                search: Default::default(),
                until: None,
                register_as: None,
                description: String::new(),
                time_limit: None,
                external: None,
            }),
        }
    }

    #[test]
    fn params_hold_everything_that_decides_the_result() {
        let params = params(&job());
        assert_eq!(params["recipe.target"], "late");
        assert_eq!(params["recipe.seed"], "7");
        assert_eq!(params["recipe.model.kind"], "tabm");
        assert_eq!(params["recipe.model.optimizer.max_epochs"], "50");
        assert_eq!(params[DATASET_VERSION], "3");
        assert_eq!(seed(&job()), 7);
    }

    #[test]
    fn the_digest_depends_on_the_request_and_not_on_its_correlation() {
        let digest = |job| super::digest(&job).expect("a digest");
        let correlated = Job { correlation_id: "w".into(), ..job() };
        assert_eq!(digest(job()), digest(correlated));
        let tagged = Job { tags: BTreeMap::from([("team".into(), "a".into())]), ..job() };
        assert_ne!(digest(job()), digest(tagged));
    }
}
