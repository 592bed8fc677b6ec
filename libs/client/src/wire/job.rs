//! Jobs, in calls and on the work queue.

use prost::Message as _;
use rekindle_domain::{
    job::{DatasetRef, Evaluate, External, Job, Priority, Requirement, Train, Work},
    validation::Violations,
};
use rekindle_proto::{
    json,
    trainer::{self as wire, job::Work as WireWork},
};

use super::{
    field::{enumeration, nested, optional_span, optional_time, parse, parse_optional},
    gate, recipe, search, time,
};

/// A job as a message.
pub fn to_wire(job: &Job) -> wire::Job {
    let dataset = Some(wire::DatasetRef { name: job.dataset.name.to_string(), version: job.dataset.version });
    let work = match &job.work {
        Work::Train(train) => WireWork::Train(wire::TrainWork { dataset, ..train_to_wire(train) }),
        Work::Evaluate(evaluate) => WireWork::Evaluate(wire::EvaluateWork { dataset, ..evaluate_to_wire(evaluate) }),
    };
    wire::Job {
        id: job.id.to_string(),
        experiment: job.experiment.to_string(),
        correlation_id: job.correlation_id.clone(),
        work: Some(work),
        tags: job.tags.clone().into_iter().collect(),
        priority: priority_to_wire(job.priority).into(),
    }
}

/// The job that a message holds.
pub fn from_wire(given: wire::Job) -> Result<Job, Violations> {
    let (dataset, work) = match given.work {
        None => return Err(Violations::of("work", "is missing: expected train or evaluate")),
        Some(WireWork::Train(mut train)) => (train.dataset.take(), train_from_wire(train).map(Work::Train)),
        Some(WireWork::Evaluate(mut evaluate)) => {
            (evaluate.dataset.take(), evaluate_from_wire(evaluate).map(Work::Evaluate))
        }
    };
    let work = work?;
    Ok(Job {
        id: parse("id", &given.id)?,
        experiment: parse("experiment", &given.experiment)?,
        correlation_id: given.correlation_id,
        tags: given.tags.into_iter().collect(),
        priority: priority_from_wire(given.priority)?,
        dataset: nested("dataset", dataset, dataset_from_wire).map_err(|error| error.within(work.kind()))?,
        work,
    })
}

/// The default is left out, so that the digest of such a job is that of earlier releases.
fn priority_to_wire(priority: Priority) -> wire::Priority {
    match priority {
        Priority::Normal => wire::Priority::Unspecified,
        Priority::High => wire::Priority::High,
    }
}

fn priority_from_wire(given: i32) -> Result<Priority, Violations> {
    enumeration("priority", given, "PRIORITY_NORMAL, PRIORITY_HIGH or unspecified", |priority| match priority {
        wire::Priority::Unspecified | wire::Priority::Normal => Some(Priority::Normal),
        wire::Priority::High => Some(Priority::High),
    })
}

/// A job as proto3 JSON.
pub fn to_json(job: &Job) -> serde_json::Value {
    json::to_value(&to_wire(job))
}

/// A job as the payload of a message on the work queue.
pub fn encode(job: &Job) -> Vec<u8> {
    to_wire(job).encode_to_vec()
}

/// The job that a payload holds.
pub fn decode(payload: &[u8]) -> Result<Job, Violations> {
    from_wire(wire::Job::decode(payload).map_err(|error| Violations::of("job", error))?)
}

fn dataset_from_wire(given: wire::DatasetRef) -> Result<DatasetRef, Violations> {
    if given.version == Some(0) {
        return Err(Violations::of("version", "is 0: expected a number from 1, or unset for the latest"));
    }
    Ok(DatasetRef { name: parse("name", &given.name)?, version: given.version })
}

/// A training on a dataset version as a message.
pub fn train_on(train: &Train, dataset: &DatasetRef) -> wire::TrainWork {
    let dataset = wire::DatasetRef { name: dataset.name.to_string(), version: dataset.version };
    wire::TrainWork { dataset: Some(dataset), ..train_to_wire(train) }
}

fn train_to_wire(train: &Train) -> wire::TrainWork {
    wire::TrainWork {
        dataset: None,
        train_until: train.until.map(time::to_wire),
        register_as: train.register_as.as_ref().map(ToString::to_string).unwrap_or_default(),
        description: train.description.clone(),
        recipe: Some(recipe::to_wire(&train.recipe)),
        search: train.search.is_needed().then(|| search::to_wire(&train.search)),
        external: train.external.as_deref().map(external_to_wire),
        time_limit: train.time_limit.map(time::span_to_wire),
    }
}

fn train_from_wire(given: wire::TrainWork) -> Result<Train, Violations> {
    Ok(Train {
        recipe: nested("train.recipe", given.recipe, recipe::from_wire)?,
        search: search::from_wire(given.search.unwrap_or_default()).map_err(|error| error.within("train.search"))?,
        until: optional_time("train.train_until", given.train_until)?,
        register_as: parse_optional("train.register_as", &given.register_as)?,
        description: given.description,
        time_limit: optional_span("train.time_limit", given.time_limit)?,
        external: given
            .external
            .map(|external| external_from_wire(external).map(Box::new))
            .transpose()
            .map_err(|error| error.within("train.external"))?,
    })
}

/// Workers outside of the platform as a message.
pub fn external_to_wire(external: &External) -> wire::External {
    wire::External { pool: external.pool.clone(), parameters: external.parameters.clone().into_iter().collect() }
}

/// The workers outside of the platform that a message names.
pub fn external_from_wire(given: wire::External) -> Result<External, Violations> {
    let external = External { pool: given.pool, parameters: given.parameters.into_iter().collect() };
    external.validate().map(|()| external)
}

fn evaluate_to_wire(evaluate: &Evaluate) -> wire::EvaluateWork {
    wire::EvaluateWork {
        dataset: None,
        champion_bundle: evaluate.champion.to_string(),
        challenger_bundle: evaluate.challenger.to_string(),
        from: evaluate.from.map(time::to_wire),
        gate: Some(gate::to_wire(&evaluate.gate)),
        requirement: requirement_to_wire(evaluate.requirement).into(),
    }
}

/// The default is left out, so that the digest of such a job is that of earlier releases.
pub(super) fn requirement_to_wire(requirement: Requirement) -> wire::Requirement {
    match requirement {
        Requirement::Better => wire::Requirement::Unspecified,
        Requirement::NotWorse => wire::Requirement::NotWorse,
        Requirement::Consistent => wire::Requirement::Consistent,
    }
}

pub(super) fn requirement_from_wire(given: i32) -> Result<Requirement, Violations> {
    let names = "REQUIREMENT_BETTER, REQUIREMENT_NOT_WORSE, REQUIREMENT_CONSISTENT";
    enumeration("evaluate.requirement", given, names, |requirement| match requirement {
        wire::Requirement::Unspecified | wire::Requirement::Better => Some(Requirement::Better),
        wire::Requirement::NotWorse => Some(Requirement::NotWorse),
        wire::Requirement::Consistent => Some(Requirement::Consistent),
    })
}

fn evaluate_from_wire(given: wire::EvaluateWork) -> Result<Evaluate, Violations> {
    Ok(Evaluate {
        champion: parse("evaluate.champion_bundle", &given.champion_bundle)?,
        challenger: parse("evaluate.challenger_bundle", &given.challenger_bundle)?,
        from: optional_time("evaluate.from", given.from)?,
        gate: gate::from_wire(given.gate.unwrap_or_default()).map_err(|error| error.within("evaluate.gate"))?,
        requirement: requirement_from_wire(given.requirement)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use rekindle_domain::{Digest, Gate, Recipe, Search};

    use super::*;

    fn jobs() -> [Job; 2] {
        let train = Work::Train(Train {
            recipe: Recipe::for_target("late"),
            search: Search::for_lookbacks(),
            until: Some(DateTime::UNIX_EPOCH),
            register_as: Some("m".parse().expect("a name")),
            description: "nightly".into(),
            time_limit: Some(std::time::Duration::from_secs(3600)),
            external: None,
        });
        let evaluate = Work::Evaluate(Evaluate {
            champion: Digest::of(b"champion"),
            challenger: Digest::of(b"challenger"),
            from: None,
            gate: Gate::default(),
            requirement: Requirement::NotWorse,
        });
        [train, evaluate].map(|work| Job {
            id: "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id"),
            experiment: "nightly".parse().expect("a name"),
            correlation_id: "w".into(),
            tags: BTreeMap::from([("team".into(), "a".into())]),
            priority: Priority::High,
            dataset: DatasetRef { name: "d".parse().expect("a name"), version: Some(3) },
            work,
        })
    }

    #[test]
    fn jobs_survive_calls_and_the_queue() {
        for job in jobs() {
            assert_eq!(from_wire(to_wire(&job)), Ok(job.clone()));
            assert_eq!(decode(&encode(&job)), Ok(job));
        }
        assert!(decode(b"\xff").is_err());
    }

    #[test]
    fn each_bad_field_is_named() {
        let [train, evaluate] = jobs().map(|job| to_wire(&job));
        let field = |job: wire::Job| from_wire(job).expect_err("a bad field").into_iter().next().map(|v| v.field);
        assert_eq!(field(wire::Job { id: "1".into(), ..train.clone() }).as_deref(), Some("id"));
        assert_eq!(field(wire::Job { work: None, ..train }).as_deref(), Some("work"));
        let Some(WireWork::Evaluate(work)) = evaluate.work.clone() else { panic!("the second evaluates") };
        let gate = wire::Gate { confidence: Some(0.5), ..Default::default() };
        let loose = WireWork::Evaluate(wire::EvaluateWork { gate: Some(gate), ..work.clone() });
        let refused = field(wire::Job { work: Some(loose), ..evaluate.clone() });
        assert_eq!(refused.as_deref(), Some("evaluate.gate.confidence"));
        let nameless = WireWork::Evaluate(wire::EvaluateWork { dataset: None, ..work });
        assert_eq!(field(wire::Job { work: Some(nameless), ..evaluate }).as_deref(), Some("evaluate.dataset"));
    }
}
