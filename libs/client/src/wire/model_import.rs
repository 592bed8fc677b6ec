//! Imports of files in the ONNX format.

use rekindle_domain::{
    DatasetName, Task,
    model_version::{ImportedTraining, ModelImport, Scores},
    validation::{Checks, Violations},
};
use rekindle_proto::registry::{self as wire, ImportModelVersionRequest};

use super::{
    field::{optional_time, parse, parse_optional},
    time,
};

/// An import as a request.
pub fn to_wire(import: &ModelImport, idempotency_key: String) -> ImportModelVersionRequest {
    let dataset = import.dataset.as_ref();
    ImportModelVersionRequest {
        idempotency_key,
        model: import.model.to_string(),
        file_digest: import.file.to_string(),
        target: import.target.clone(),
        task: import.task.map_or(wire::Task::Unspecified, task_to_wire).into(),
        classes: import.classes.clone(),
        features: import.features.clone(),
        nullable: import.nullable.clone(),
        output: import.output.clone().unwrap_or_default(),
        scores: import.scores.map_or(wire::Scores::Unspecified, scores_to_wire).into(),
        dataset: dataset.map(|(name, _)| name.to_string()).unwrap_or_default(),
        dataset_version: dataset.and_then(|(_, version)| *version),
        ignore: import.ignore.clone(),
        description: import.description.clone(),
        run_id: import.training.map(|training| training.run.to_string()).unwrap_or_default(),
        until: import.training.and_then(|training| training.until).map(time::to_wire),
        validation_from: import.training.and_then(|training| training.validation_from).map(time::to_wire),
    }
}

/// The import that a request holds.
pub fn from_wire(given: ImportModelVersionRequest) -> Result<ModelImport, Violations> {
    let mut checks = Checks::new();
    let model = checks.taken_here(parse("model", &given.model));
    let file = checks.taken_here(parse("file_digest", &given.file_digest));
    let task = checks.taken_here(task_from_wire(given.task));
    let scores = checks.taken_here(scores_from_wire(given.scores));
    let dataset: Option<Option<DatasetName>> = checks.taken_here(parse_optional("dataset", &given.dataset));
    checks.require(!given.target.is_empty(), "target", "empty", "the name of the column that the model predicts");
    let version = given.dataset_version;
    checks.require(version != Some(0), "dataset_version", 0, "a number from 1, or unset for the latest");
    checks.require(
        version.is_none() || !given.dataset.is_empty(),
        "dataset_version",
        "set",
        "unset, as there is no dataset",
    );
    let run = checks.taken_here(parse_optional("run_id", &given.run_id)).flatten();
    let until = checks.taken_here(optional_time("until", given.until)).flatten();
    let validation_from = checks.taken_here(optional_time("validation_from", given.validation_from)).flatten();
    for (field, is_set) in [("until", until.is_some()), ("validation_from", validation_from.is_some())] {
        checks.require(run.is_some() || !is_set, field, "set", "unset, as there is no run_id");
    }
    checks.finish()?;
    let missing = || Violations::of("model", "is missing");
    Ok(ModelImport {
        model: model.ok_or_else(missing)?,
        file: file.ok_or_else(missing)?,
        target: given.target,
        task: task.flatten(),
        classes: given.classes,
        features: given.features,
        nullable: given.nullable,
        output: Some(given.output).filter(|output| !output.is_empty()),
        scores: scores.flatten(),
        dataset: dataset.flatten().map(|name| (name, version)),
        ignore: given.ignore,
        description: given.description,
        training: run.map(|run| ImportedTraining { run, until, validation_from }),
    })
}

fn task_to_wire(task: Task) -> wire::Task {
    match task {
        Task::Binary => wire::Task::Binary,
        Task::Multiclass => wire::Task::Multiclass,
        Task::Regression => wire::Task::Regression,
    }
}

fn task_from_wire(given: i32) -> Result<Option<Task>, Violations> {
    match wire::Task::try_from(given) {
        Ok(wire::Task::Unspecified) => Ok(None),
        Ok(wire::Task::Binary) => Ok(Some(Task::Binary)),
        Ok(wire::Task::Multiclass) => Ok(Some(Task::Multiclass)),
        Ok(wire::Task::Regression) => Ok(Some(Task::Regression)),
        Err(_) => {
            let problem = format!("is {given}: expected one of TASK_BINARY, TASK_MULTICLASS, TASK_REGRESSION");
            Err(Violations::of("task", problem))
        }
    }
}

fn scores_to_wire(scores: Scores) -> wire::Scores {
    match scores {
        Scores::Probabilities => wire::Scores::Probabilities,
        Scores::Logits => wire::Scores::Logits,
        Scores::Numbers => wire::Scores::Numbers,
    }
}

/// What the scores of a file are, as a field holds it.
pub fn scores_from_wire(given: i32) -> Result<Option<Scores>, Violations> {
    match wire::Scores::try_from(given) {
        Ok(wire::Scores::Unspecified) => Ok(None),
        Ok(wire::Scores::Probabilities) => Ok(Some(Scores::Probabilities)),
        Ok(wire::Scores::Logits) => Ok(Some(Scores::Logits)),
        Ok(wire::Scores::Numbers) => Ok(Some(Scores::Numbers)),
        Err(_) => {
            let problem = format!("is {given}: expected one of SCORES_PROBABILITIES, SCORES_LOGITS, SCORES_NUMBERS");
            Err(Violations::of("scores", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::Digest;

    use super::*;

    fn import() -> ModelImport {
        ModelImport {
            model: "m".parse().expect("a name"),
            file: Digest::of(b"file"),
            target: "late".into(),
            task: Some(Task::Binary),
            classes: vec!["no".into(), "yes".into()],
            features: vec!["a".into()],
            nullable: vec!["a".into()],
            output: Some("p".into()),
            scores: Some(Scores::Logits),
            dataset: Some(("flights".parse().expect("a name"), Some(3))),
            ignore: vec!["id".into()],
            description: "d".into(),
            training: Some(ImportedTraining {
                run: "01890000-0000-7000-8000-000000000001".parse().expect("an id"),
                until: Some(chrono::DateTime::UNIX_EPOCH),
                validation_from: None,
            }),
        }
    }

    #[test]
    fn an_import_survives_the_wire() {
        assert_eq!(from_wire(to_wire(&import(), "key".into())), Ok(import()));
        let none = ModelImport { task: None, output: None, scores: None, dataset: None, ..import() };
        assert_eq!(from_wire(to_wire(&none, "key".into())), Ok(none));
    }

    #[test]
    fn every_invalid_field_is_named() {
        let request = ImportModelVersionRequest {
            task: 9,
            scores: 9,
            dataset_version: Some(0),
            dataset: "No Name".into(),
            ..Default::default()
        };
        let violations = from_wire(request).expect_err("nothing is valid");
        let mut fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["dataset", "dataset_version", "file_digest", "model", "scores", "target", "task"]);
    }
}
