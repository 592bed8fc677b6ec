//! Versions of the files of a folder, as MLflow's clients log them. A model in the ONNX format becomes a bundle, so that it can be served. Files
//! of another format are kept as they are: the list of them takes the place of the bundle.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_domain::{
    DatasetName, Digest, ModelName, RunId,
    model_version::{ModelImport, ModelVersion, Scores, VersionStatus},
    text,
};
use rekindle_service::{Call, RequestError};
use sea_orm::DatabaseConnection;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bundles, Origin, Registered, Registration, Verified, insert_next, not_reviewed, verify};
use crate::{Error, dataset, store::artifacts::Artifact};

/// The file that describes a model of MLflow, and the most bytes of it.
const DESCRIPTION: &str = "MLmodel";
const MAX_DESCRIPTION: u64 = 1 << 20;
/// Characters of the reason why a version cannot be served: it may repeat what the files say.
const MAX_REASON: usize = 2000;
/// Tags with what the files do not say.
const PREFIX: &str = "rekindle.";

/// A version to be made of files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) model: ModelName,
    /// With their paths in the folder of the model.
    pub(crate) files: Vec<Artifact>,
    pub(crate) description: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) run: Option<RunId>,
    /// The tags of the logged model, and those of the version over them: `rekindle.target` and others are options of the import.
    pub(crate) options: BTreeMap<String, String>,
    /// Metrics of the model, if the files have none.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) origin: Origin,
}

/// Creates the next version of a model.
pub(crate) async fn register_files(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    bundles: &Bundles,
    call: Call,
    given: Files,
) -> Result<ModelVersion, Error> {
    text::check_description(&given.description).map_err(|problem| Error::invalid("description", problem))?;
    let mut verified = match bundle(db, artifacts, bundles, &given).await {
        Ok(bundle) => {
            let (model, description) = (given.model.clone(), given.description.clone());
            verify(bundles, &Registration { model, bundle, description }, &call).await?
        }
        Err(NoBundle::Because(reason)) => not_servable(artifacts, &call, &given, reason).await?,
        Err(NoBundle::Failed(error)) => return Err(error),
    };
    let version = &mut verified.registered.version;
    version.tags = given.tags;
    version.run = given.run.or(version.run);
    if version.metrics.is_empty() {
        version.metrics = given.metrics;
    }
    verified.registered.origin = given.origin;
    insert_next(db, artifacts, call, None, verified).await
}

/// Why there is no bundle.
enum NoBundle {
    /// The files cannot be served.
    Because(String),
    /// They could not be read.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for NoBundle {
    fn from(error: E) -> Self {
        match error.into() {
            Error::Request(RequestError::Invalid(violations)) => Self::Because(violations.to_string()),
            Error::Request(missing @ RequestError::NotFound { .. }) => Self::Because(missing.to_string()),
            Error::NoOnnxRuntime(problem) => Self::Because(problem),
            error => Self::Failed(error),
        }
    }
}

async fn bundle(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    bundles: &Bundles,
    given: &Files,
) -> Result<Digest, NoBundle> {
    let described = describe(artifacts, &given.files).await?;
    let path = described.onnx()?;
    let file = given.files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| NoBundle::Because(format!("{DESCRIPTION} names {path:?}, which is missing")))?;
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let beside = |other: &&Artifact| {
        let name = other.path.strip_prefix(&folder);
        other.path != path && name.is_some_and(|name| !name.contains('/') && name != DESCRIPTION && !is_text(name))
    };
    let name = |other: &Artifact| (other.path[folder.len()..].to_owned(), other.digest);
    let external: BTreeMap<String, Digest> = given.files.iter().filter(beside).map(name).collect();
    let import = described.import(given, file.digest)?;
    let dataset = match &import.dataset {
        Some((name, version)) => Some(dataset::get(db, name, *version).await?),
        None => None,
    };
    match bundles.make(import.clone(), dataset.as_ref(), &external).await {
        // The file has an input for each feature, with its name.
        Err(Error::Request(RequestError::Invalid(violations)))
            if !import.features.is_empty() && violations.iter().all(|violation| violation.field == "features") =>
        {
            let import = ModelImport { features: Vec::new(), ..import };
            Ok(bundles.make(import, dataset.as_ref(), &external).await?)
        }
        made => Ok(made?),
    }
}

/// Files that MLflow writes beside a model, which are no data of its tensors.
fn is_text(name: &str) -> bool {
    [".yaml", ".yml", ".txt", ".json", ".md", ".py"].iter().any(|ending| name.ends_with(ending))
}

/// Keeps the files of a version that cannot be served.
async fn not_servable(
    artifacts: &Artifacts,
    call: &Call,
    given: &Files,
    status_reason: String,
) -> Result<Verified, Error> {
    let list: Vec<Value> = given
        .files
        .iter()
        .map(|file| json!({ "path": file.path, "digest": file.digest.to_string(), "bytes": file.bytes }))
        .collect();
    let list = serde_json_canonicalizer::to_vec(&json!({ "files": list }));
    let list = list.map_err(|error| Error::invalid("source", error))?;
    let version = ModelVersion {
        model: given.model.clone(),
        version: 0,
        status: VersionStatus::NotServable,
        status_reason: status_reason.chars().filter(|character| !character.is_control()).take(MAX_REASON).collect(),
        bundle: artifacts.put(Bytes::from(list)).await?,
        run: None,
        description: given.description.clone(),
        tags: BTreeMap::new(),
        author: call.principal.to_string(),
        review: not_reviewed(),
        metrics: BTreeMap::new(),
        aliases: Vec::new(),
        created_at: call.now,
        deleted_at: None,
        revision: 1,
    };
    let registered = Registered { version, datasets: Vec::new(), origin: Origin::default(), updated_at: call.now };
    Ok(Verified { registered, blobs: given.files.iter().map(|file| file.digest).collect() })
}

/// What is read of a description.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Description {
    flavors: BTreeMap<String, Flavor>,
    signature: Option<SignatureTexts>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Flavor {
    /// The file, in the ONNX flavor. Other flavors have other types here.
    data: Option<Value>,
}

/// Lists of columns or tensors, as JSON within the YAML.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SignatureTexts {
    inputs: Option<String>,
    outputs: Option<String>,
}

/// A column or a tensor of a signature.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    name: Option<String>,
    required: Option<bool>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<Tensor>,
}

#[derive(Debug, Deserialize)]
struct Tensor {
    shape: Vec<i64>,
}

async fn describe(artifacts: &Artifacts, files: &[Artifact]) -> Result<Description, NoBundle> {
    let Some(file) = files.iter().find(|file| file.path == DESCRIPTION) else {
        return Err(NoBundle::Because(format!("the folder has no file {DESCRIPTION}")));
    };
    if file.bytes > MAX_DESCRIPTION {
        let problem = format!("{DESCRIPTION} has {} bytes: expected at most {MAX_DESCRIPTION}", file.bytes);
        return Err(NoBundle::Because(problem));
    }
    let bytes = artifacts.get_at_most(&file.digest, MAX_DESCRIPTION).await?;
    Description::parse(&bytes).map_err(NoBundle::Because)
}

impl Description {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_saphyr::from_slice(bytes).map_err(|error| format!("{DESCRIPTION} cannot be read: {error}"))
    }

    /// The path of the model in the ONNX format.
    fn onnx(&self) -> Result<String, NoBundle> {
        let path = self.flavors.get("onnx").and_then(|flavor| flavor.data.as_ref()).and_then(Value::as_str);
        path.map(str::to_owned).ok_or_else(|| {
            let flavors = self.flavors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            NoBundle::Because(format!("only models of the flavor onnx can be served; this one has: {flavors}"))
        })
    }

    fn import(&self, given: &Files, file: Digest) -> Result<ModelImport, NoBundle> {
        let option = |name: &str| given.options.get(&format!("{PREFIX}{name}")).map(String::as_str);
        let refused = |name: &str, problem: String| NoBundle::Because(format!("tag {PREFIX}{name}: {problem}"));
        let signature = self.signature.as_ref();
        let inputs = entries(signature.and_then(|signature| signature.inputs.as_deref()));
        let outputs = entries(signature.and_then(|signature| signature.outputs.as_deref()));
        let nullable =
            inputs.iter().filter(|input| input.required == Some(false)).filter_map(|input| input.name.clone());
        let target = match (option("target"), outputs.as_slice()) {
            (Some(target), _) => target.to_owned(),
            (None, [Entry { name: Some(name), .. }]) => name.clone(),
            _ => "target".to_owned(),
        };
        let scores = match option("scores") {
            None => None,
            Some(name) => {
                let all = [Scores::Probabilities, Scores::Logits, Scores::Numbers];
                let found = all.into_iter().find(|scores| scores.name() == name);
                Some(found.ok_or_else(|| {
                    refused("scores", format!("is {name:?}: expected probabilities, logits or numbers"))
                })?)
            }
        };
        let dataset = match option("dataset") {
            None => None,
            Some(text) => {
                let (name, version) = text.split_once('/').map_or((text, None), |(name, number)| (name, Some(number)));
                let name: DatasetName = name.parse().map_err(|error| refused("dataset", format!("{error}")))?;
                let version = version.map(str::parse).transpose();
                Some((name, version.map_err(|_| refused("dataset", format!("is {text:?}: expected NAME or NAME/3")))?))
            }
        };
        Ok(ModelImport {
            model: given.model.clone(),
            file,
            target,
            task: None,
            classes: option("classes").map(list).unwrap_or_default(),
            features: option("features").map_or_else(|| features(&inputs), list),
            nullable: nullable.collect(),
            output: option("output").map(str::to_owned),
            scores,
            dataset,
            ignore: option("ignore").map(list).unwrap_or_default(),
            description: given.description.clone(),
            training: None,
        })
    }
}

/// Names, separated by commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The list that a signature has as JSON; none if it has another form.
fn entries(json: Option<&str>) -> Vec<Entry> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// The names of the columns, or numbers for those of a tensor `[?, width]`.
fn features(inputs: &[Entry]) -> Vec<String> {
    /// More are not made up.
    const MAX_WIDTH: i64 = 10_000;
    if let [Entry { tensor: Some(Tensor { shape }), .. }] = inputs {
        return match shape.as_slice() {
            [_, width @ 1..=MAX_WIDTH] => (0..*width).map(|column| format!("x{column}")).collect(),
            _ => Vec::new(),
        };
    }
    inputs.iter().filter_map(|input| input.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MLMODEL: &str = r#"
artifact_path: mlflow-artifacts:/1/models/m-1/artifacts
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.20.0
    providers:
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
signature:
  inputs: '[{"type": "double", "name": "age", "required": true}, {"type": "double", "name": "income", "required": false}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'
  params: null
"#;

    fn files(options: &[(&str, &str)]) -> Files {
        Files {
            model: "churn".parse().expect("a name"),
            files: Vec::new(),
            description: String::new(),
            tags: BTreeMap::new(),
            run: None,
            options: options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            metrics: BTreeMap::new(),
            origin: Origin::default(),
        }
    }

    fn import(options: &[(&str, &str)]) -> Result<ModelImport, String> {
        let description = Description::parse(MLMODEL.as_bytes())?;
        description.import(&files(options), Digest::of(b"file")).map_err(reason)
    }

    fn reason(no_bundle: NoBundle) -> String {
        match no_bundle {
            NoBundle::Because(reason) => reason,
            NoBundle::Failed(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_import_takes_signature_and_tags() {
        let description = Description::parse(MLMODEL.as_bytes()).expect("valid");
        assert_eq!(description.onnx().map_err(reason).expect("a file"), "model.onnx");
        let plain = import(&[]).expect("valid");
        assert_eq!(
            (plain.features, plain.nullable, plain.target.as_str()),
            (vec!["age".to_owned(), "income".to_owned()], vec!["income".to_owned()], "target")
        );
        let told = import(&[
            ("rekindle.target", "left"),
            ("rekindle.classes", "no, yes"),
            ("rekindle.dataset", "customers/3"),
            ("rekindle.scores", "logits"),
            ("other", "x"),
        ]);
        let told = told.expect("valid");
        assert_eq!((told.target.as_str(), told.scores), ("left", Some(Scores::Logits)));
        assert_eq!(told.classes, ["no", "yes"]);
        assert_eq!(told.dataset, Some(("customers".parse().expect("a name"), Some(3))));
        for (name, value, problem) in [
            ("rekindle.scores", "odds", "expected probabilities"),
            ("rekindle.dataset", "A", "dataset name"),
            ("rekindle.dataset", "a/b", "expected NAME or NAME/3"),
        ] {
            let refused = import(&[(name, value)]).expect_err(value);
            assert!(refused.starts_with(&format!("tag {name}")) && refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn another_flavor_and_a_file_that_is_no_description_have_a_reason() {
        let sklearn = Description::parse(b"flavors:\n  sklearn:\n    pickled_model: model.pkl\n").expect("valid");
        assert!(reason(sklearn.onnx().expect_err("no file")).ends_with("this one has: sklearn"));
        for text in ["\0", "flavors: [", "flavors: 3", &"[".repeat(100_000), "a: &a [*a, *a]"] {
            if let Ok(description) = Description::parse(text.as_bytes()) {
                description.onnx().map_err(reason).expect_err("no model");
            }
        }
    }

    #[test]
    fn columns_of_a_tensor_have_numbers() {
        let inputs = entries(Some(r#"[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]"#));
        assert_eq!(features(&inputs), ["x0", "x1", "x2"]);
        assert!(features(&entries(Some("no JSON"))).is_empty());
    }
}
