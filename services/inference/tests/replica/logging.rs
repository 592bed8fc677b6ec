//! Logged + declared lost = answered.

use std::collections::BTreeMap;

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Float64Type, TimestampMillisecondType, UInt32Type},
};
use rekindle_bus::{
    read::{From, Stored},
    streams,
};
use rekindle_client::wire::failure::report_from_json;
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::failure::FailureReport;
use rekindle_inference::{LogConfig, ModelLog};
use rekindle_proto::inference::{
    InferParameter, ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};
use rekindle_testkit::eventually;

use crate::world::{Replica, World, model, parameter, request};

pub(crate) type Messages = BTreeMap<String, (Header, RecordBatch)>;

/// Every message of the log, by its id.
pub(crate) async fn logged(world: &World) -> Result<Messages, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = world.bus.jetstream().get_stream(streams::PREDICTIONS).await.map_err(|error| text(&error))?;
    let state = stream.get_info().await.map_err(|error| text(&error))?.state;
    let mut messages = Messages::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.map_err(|error| text(&error))?;
        assert!(message.payload.len() <= prediction_log::MAX_BYTES);
        let (header, batch) = prediction_log::decode(&message.payload).map_err(|error| text(&error))?;
        assert!(messages.insert(header.message_id(), (header, batch)).is_none(), "a message occurs twice");
    }
    Ok(messages)
}

fn rows(messages: &Messages) -> (u64, u64) {
    let logged = messages.values().map(|(_, batch)| batch.num_rows() as u64).sum();
    (logged, messages.values().map(|(header, _)| header.lost_before).sum())
}

async fn serving(world: &World, buffer_bytes: usize) -> Replica {
    serving_with(world, |log| {
        log.buffer_bytes = buffer_bytes;
        log.batch_bytes = buffer_bytes.min(log.batch_bytes);
    })
    .await
}

async fn serving_with(world: &World, change: impl FnOnce(&mut LogConfig)) -> Replica {
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let mut config = world.config();
    change(&mut config.log);
    let replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    replica.ready().await;
    replica
}

async fn answer(replica: &Replica, requests: usize, rows: usize) -> u64 {
    for _ in 0..requests {
        replica.infer(request(rows)).await.unwrap();
    }
    (requests * rows) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_rows_and_the_outputs_of_an_answer() {
    let world = World::start().await;
    let replica = serving(&world, 1 << 20).await;
    let mut request = request(2);
    let time = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("2026-03-01T12:00:00Z".into())) };
    request.parameters.insert("event_time".into(), time);
    let answer = replica.infer(request).await.unwrap();
    replica.stop().await;

    let messages = logged(&world).await.unwrap();
    assert_eq!((messages.len(), rows(&messages)), (1, (2, 0)), "stopping flushes");
    let (header, batch) = messages.values().next().unwrap();
    assert_eq!((header.model.as_str(), header.model_version, header.sequence), ("flight-delay", 1, 1));
    assert_eq!(header.bundle_digest.to_string(), parameter(&answer, "bundle_digest"));
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no {name}")).clone();
    let id: uuid::Uuid = parameter(&answer, "prediction_id").parse().unwrap();
    assert_eq!(column("prediction_id").as_fixed_size_binary().value(1), id.as_bytes());
    assert_eq!(column("row").as_primitive::<UInt32Type>().values(), &[0, 1]);
    assert_eq!(column("event_time").as_primitive::<TimestampMillisecondType>().value(0), 1_772_366_400_000);
    assert_eq!(column("in.distance").as_primitive::<Float64Type>().values(), &[120.0, 120.0]);
    assert!(column("in.delay").is_null(0), "a missing input is logged as missing");
    assert_eq!(column("in.carrier").as_string::<i32>().value(0), "BB");
    let probability = column("out.probability").as_primitive::<arrow::datatypes::Float32Type>().value(0);
    assert_eq!(answer.raw_output_contents[0][..4], probability.to_le_bytes());
    let label = column("out.label");
    assert_eq!(
        &answer.raw_output_contents[1][4..4 + label.as_string::<i32>().value(0).len()],
        label.as_string::<i32>().value(0).as_bytes()
    );
    assert_eq!(batch.num_columns(), 4 + 3 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_id_and_the_entity_keys_are_logged() {
    let world = World::start().await;
    let replica = serving(&world, 1 << 20).await;
    let mut named = request(2);
    named.id = "order-1".into();
    named.inputs.push(InferInputTensor {
        name: "entity_key".into(),
        datatype: "BYTES".into(),
        shape: vec![2],
        ..InferInputTensor::default()
    });
    named.raw_input_contents.push(b"\x02\0\0\0N1\0\0\0\0".to_vec().into());
    replica.infer(named).await.unwrap();
    replica.infer(request(1)).await.unwrap();
    replica.stop().await;

    let messages = logged(&world).await.unwrap();
    let texts = |name: &str| -> Vec<Option<String>> {
        let column = |batch: &RecordBatch| batch.column_by_name(name).map(|column| column.as_string::<i32>().clone());
        let columns = messages.values().filter_map(|(_, batch)| column(batch));
        columns.flat_map(|column| column.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()).collect()
    };
    let (id, entity) = (Some("order-1".to_owned()), Some("N1".to_owned()));
    let (ids, entities) = (texts("request_id"), texts("entity_key"));
    assert_eq!((&ids[..2], &entities[..2]), (&[id.clone(), id][..], &[entity, None][..]));
    assert!(ids[2..].iter().chain(&entities[2..]).all(Option::is_none), "the other request has neither");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_bus_fails_no_request_and_every_row_is_counted() {
    let mut world = World::start().await;
    let replica = serving(&world, 256 << 10).await;
    let mut answered = answer(&replica, 200, 3).await;
    eventually("the first rows to be logged", async || {
        let (logged, lost) = rows(&logged(&world).await?);
        if (logged, lost) == (answered, 0) { Ok(()) } else { Err(format!("{logged} logged, {lost} lost")) }
    })
    .await;

    world.nats.kill();
    // Far more than the buffer's size.
    answered += answer(&replica, 400, 64).await;
    world.nats.restart().await;
    answered += answer(&replica, 50, 3).await;

    let (logged, lost) = eventually("logged + declared lost = answered", async || {
        let (logged, lost) = rows(&logged(&world).await?);
        if logged + lost == answered {
            Ok((logged, lost))
        } else {
            Err(format!("{logged} + {lost}, answered {answered}"))
        }
    })
    .await;
    assert!(lost > 0 && logged > 650, "{logged} logged, {lost} lost: the buffer should have overflowed");
    replica.stop().await;
    let (logged, lost) = rows(&self::logged(&world).await.unwrap());
    assert_eq!(logged + lost, answered, "shutdown adds nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_are_split_into_messages_within_the_limit() {
    let world = World::start().await;
    let replica = serving(&world, 64 << 20).await;
    let answered = answer(&replica, 4, 8000).await;
    replica.stop().await;
    let messages = logged(&world).await.unwrap();
    assert_eq!(rows(&messages), (answered, 0));
    let sequences: Vec<_> = messages.values().map(|(header, _)| header.sequence).collect();
    assert_eq!(sequences.iter().copied().max(), Some(sequences.len() as u64), "numbered from 1 without a gap");
}

/// Every report of failed requests.
async fn failures(world: &World) -> Vec<FailureReport> {
    let mut reports = Vec::new();
    let take = |stored: Stored| {
        reports.push(report_from_json(&stored.payload).expect("a report"));
        true
    };
    let subject = rekindle_bus::subject::failures(&model());
    world.bus.read(streams::FAILURES, subject, From::Sequence(1), take).await.expect("read");
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_an_answer_are_logged_with_the_reason() {
    let world = World::start().await;
    let replica = serving(&world, 1 << 20).await;
    for (name, id) in [("distanse", "order-1"), ("distanse", "order-2"), ("delays", "order-3")] {
        let mut wrong = request(1);
        (wrong.id, wrong.inputs[1].name) = (id.into(), name.into());
        replica.infer(wrong).await.expect_err("no such input");
    }
    let refused = replica.infer(ModelInferRequest { model_version: "9".into(), ..request(1) }).await;
    refused.expect_err("no such version");
    let unknown = replica.infer(ModelInferRequest { model_name: "weather".into(), ..request(1) }).await;
    unknown.expect_err("no such model");
    replica.stop().await;

    let reports = failures(&world).await;
    assert!(reports.iter().all(|report| report.lost_before == 0));
    let failed: Vec<_> = reports.into_iter().flat_map(|report| report.failures).collect();
    assert_eq!(
        failed.iter().map(|failed| failed.requests).sum::<u64>(),
        4,
        "all but those for a model that is unknown"
    );
    let of = |text: &str| failed.iter().filter(move |failed| failed.message.contains(text)).collect::<Vec<_>>();
    let twice = of("inputs[distanse]");
    assert_eq!(twice.iter().map(|failed| failed.requests).sum::<u64>(), 2);
    assert_eq!((twice[0].reason.as_str(), twice[0].version), ("INVALID_INPUT", Some(1)));
    assert_eq!(twice[0].request_id, "order-1", "that of the first");
    let version = of("version \"9\"");
    assert_eq!((version[0].reason.as_str(), version[0].version), ("VERSION_NOT_SERVED", None));
}

fn own(sample_rate: f64, redact: &[&str]) -> ModelLog {
    ModelLog { model: model(), sample_rate, redact: redact.iter().map(ToString::to_string).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_whole_requests_is_logged_and_the_other_rows_are_declared() {
    let world = World::start().await;
    let replica = serving_with(&world, |log| log.models = vec![own(0.5, &[])]).await;
    let answered = answer(&replica, 400, 3).await;
    replica.stop().await;
    let messages = logged(&world).await.unwrap();
    let (logged, lost) = rows(&messages);
    let unsampled: u64 = messages.values().map(|(header, _)| header.unsampled_before).sum();
    assert_eq!((logged + unsampled, lost), (answered, 0));
    assert!(logged.is_multiple_of(3), "{logged} rows are no whole requests");
    // Five standard deviations of a binomial count of 400.
    assert!((150..=250).contains(&(logged / 3)), "{} of 400 requests", logged / 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn redacted_inputs_are_neither_logged_nor_repeated_in_failures() {
    let world = World::start().await;
    let replica = serving_with(&world, |log| log.models = vec![own(1.0, &["carrier"])]).await;
    answer(&replica, 1, 2).await;
    let mut wrong = request(1);
    wrong.raw_input_contents[0] = b"secret".to_vec().into();
    let refused = replica.infer(wrong).await.expect_err("no text");
    replica.stop().await;
    let messages = logged(&world).await.unwrap();
    let (_, batch) = messages.values().next().unwrap();
    assert!(batch.column_by_name("in.carrier").is_none() && batch.column_by_name("in.distance").is_some());
    let failed = failures(&world).await.remove(0).failures.remove(0);
    assert!(refused.message().starts_with("inputs[carrier]"), "{refused}");
    assert_eq!(failed.message, "inputs[carrier]: the message is not logged, since inputs are redacted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_have_an_input_to_redact_is_not_served() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let mut config = world.config();
    config.log.models = vec![own(1.0, &["carier"])];
    let _replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    let served = world.reports("a failure", |served| served.failure.is_some()).await;
    assert!(served.failure.is_some_and(|failure| failure.contains("\"carier\"")));
}
