//! The training of the champion, from which the first policy of a model takes what no flag gives.

use anyhow::Result;
use rekindle_bundle::Manifest;
use rekindle_client::Registry;
use rekindle_domain::{
    AliasName, DatasetName, ModelName, Policy, Recipe,
    model_version::{ModelVersion, VersionSelector},
};

use crate::client::upload::download;

/// The param of a run that holds the name of its dataset.
const DATASET: &str = "dataset.name";

/// How the champion was trained.
#[derive(Debug, Clone)]
pub(super) struct Champion {
    /// The champion as `model version N`.
    pub name: String,
    /// `None` if the registry does not know the run.
    pub dataset: Option<DatasetName>,
    /// `None` if the champion is an imported model, which was trained elsewhere.
    pub recipe: Option<Recipe>,
}

impl Champion {
    /// The champion of a model; `None` if there is none.
    pub(super) async fn of(model: &ModelName, registry: &Registry) -> Result<Option<Self>> {
        let version = match registry.model_version(model, &VersionSelector::Alias(AliasName::champion())).await {
            Ok(version) => version,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::from_bytes(&download(registry.clone(), version.bundle).await?)?;
        Ok(Some(Self {
            name: format!("{} version {}", version.model, version.version),
            dataset: dataset(&version, registry).await?,
            recipe: manifest.provenance.recipe.map(|recipe| *recipe),
        }))
    }

    /// What a policy has instead of what the champion was trained with, in one sentence; `None` if nothing differs, or it is not known.
    pub(super) fn difference(&self, policy: &Policy) -> Option<String> {
        let (given, trained) = (&policy.recipe, self.recipe.as_ref()?);
        let mut parts = Vec::new();
        let mut add = |what: &str, is_equal: bool, given: String, trained: String| {
            if !is_equal {
                parts.push(format!("{what} {given} instead of {trained}"));
            }
        };
        if let Some(dataset) = &self.dataset {
            add("dataset", policy.dataset == *dataset, policy.dataset.to_string(), dataset.to_string());
        }
        add("target", given.target == trained.target, given.target.clone(), trained.target.clone());
        let (ignore, ignored) = (sorted(&given.ignore), sorted(&trained.ignore));
        add("ignored columns", ignore == ignored, listed(&ignore), listed(&ignored));
        let (model, before) = (&given.model, &trained.model);
        match (model.kind(), before.kind()) {
            _ if policy.search.models => {}
            (kind, other) if kind != other => add("model", false, kind.to_owned(), other.to_owned()),
            (kind, _) => add(kind, model == before, "with other hyperparameters".to_owned(), "those".to_owned()),
        }
        add("weights of the rows", given.weights == trained.weights, "other ones".to_owned(), "those".to_owned());
        add("calibration", given.calibration == trained.calibration, "another one".to_owned(), "that".to_owned());
        add("seed", given.seed == trained.seed, given.seed.to_string(), trained.seed.to_string());
        let lookback = |recipe: &Recipe| {
            recipe.lookback.map_or("all rows".to_owned(), |span| humantime::format_duration(span).to_string())
        };
        // A search decides it for each retraining.
        let is_equal = policy.search.lookbacks || given.lookback == trained.lookback;
        add("lookback", is_equal, lookback(given), lookback(trained));
        let (share, shared) = (given.validation_share, trained.validation_share);
        add("validation share", (share - shared).abs() < f64::EPSILON, share.to_string(), shared.to_string());
        (!parts.is_empty()).then(|| {
            format!("the policy differs from the training of the champion, {}: {}", self.name, parts.join("; "))
        })
    }
}

/// The dataset that the run of a version was given.
async fn dataset(version: &ModelVersion, registry: &Registry) -> Result<Option<DatasetName>> {
    let Some(run) = version.run else { return Ok(None) };
    match registry.run(run).await {
        Ok(run) => Ok(run.params.get(DATASET).and_then(|name| name.parse().ok())),
        // The run may belong to another registry.
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn sorted(names: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::recipe::{LinearRecipe, ModelRecipe};

    use super::*;

    #[test]
    fn what_differs_from_the_training_is_one_sentence() {
        let recipe = Recipe { ignore: vec!["id".into(), "tips".into()], ..Recipe::for_target("late") };
        let champion = Champion {
            name: "m version 1".into(),
            dataset: Some("flights".parse().expect("a name")),
            recipe: Some(recipe.clone()),
        };
        let policy = |dataset: &str, recipe| {
            let (model, dataset) = ("m".parse().expect("a name"), dataset.parse().expect("a name"));
            Policy::new(model, dataset, recipe)
        };
        let reordered = Recipe { ignore: vec!["tips".into(), "id".into()], ..recipe.clone() };
        assert_eq!(champion.difference(&policy("flights", reordered)), None);
        let model = ModelRecipe::Linear(LinearRecipe::default());
        let other = Recipe { target: "delay".into(), ignore: Vec::new(), model, ..recipe };
        assert_eq!(
            champion.difference(&policy("trips", other)).expect("differences"),
            "the policy differs from the training of the champion, m version 1: dataset trips instead of flights; target delay \
             instead of late; ignored columns none instead of id, tips; model linear instead of tabm"
        );
    }
}
