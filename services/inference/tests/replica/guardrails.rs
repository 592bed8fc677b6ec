//! Guardrails and out-of-distribution scores as a client sees them, and in the log.

use arrow::array::{Array as _, AsArray as _};
use rekindle_client::wire::raw;
use rekindle_inference::{Action, Config, ModelGuardrails, Policy, Range};
use rekindle_proto::inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice};
use rekindle_testkit::eventually;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    logging::logged,
    world::{Replica, World, model, parameter, request},
};

async fn serving(change: impl FnOnce(&mut ModelGuardrails)) -> (World, Replica) {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let mut guardrails = ModelGuardrails {
        model: model(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        missing_values: Policy::Accept,
        unseen_categories: Policy::Accept,
    };
    change(&mut guardrails);
    let mut config: Config = world.config();
    config.guardrails.models = vec![guardrails];
    let replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    replica.ready().await;
    (world, replica)
}

/// Two rows, of which the second has this distance and carrier.
fn rows(distance: f64, carrier: &str) -> ModelInferRequest {
    let mut rows = request(2);
    rows.raw_input_contents[0] = raw::encode_texts(&["BB", carrier]);
    rows.raw_input_contents[1] = raw::encode(&[120.0, distance], f64::to_le_bytes);
    rows
}

fn range(name: &str, max: f64, action: Action) -> Range {
    Range { name: name.to_owned(), min: None, max: Some(max), action }
}

#[tokio::test(flavor = "multi_thread")]
async fn clipped_rows_are_answered_like_rows_at_the_bound_and_logged_as_received() {
    let (world, replica) = serving(|guardrails| {
        guardrails.inputs = vec![range("distance", 500.0, Action::Clip)];
        guardrails.unseen_categories = Policy::Flag;
    })
    .await;
    let at_the_bound = replica.infer(rows(500.0, "BB")).await.unwrap();
    assert!(!at_the_bound.parameters.contains_key("guardrails"), "nothing was found");
    let clipped = replica.infer(rows(9e9, "BB")).await.unwrap();
    assert_eq!(clipped.raw_output_contents, at_the_bound.raw_output_contents);
    let found: serde_json::Value = serde_json::from_str(&parameter(&clipped, "guardrails")).unwrap();
    let first = serde_json::json!([{ "row": 1, "name": "inputs[distance]", "rule": "range", "action": "clip" }]);
    assert_eq!(found, serde_json::json!({ "hits": 1, "first": first }));
    let flagged = replica.infer(rows(120.0, "ZZ")).await.unwrap();
    assert!(parameter(&flagged, "guardrails").contains("unseen"));
    eventually("the replica reports how often its guardrails have acted", async || {
        let counts: Vec<_> =
            world.reported().await?.versions.values().map(|loaded| (loaded.answered, loaded.guarded)).collect();
        if counts == [(3, 2)] { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    replica.stop().await;

    let messages = logged(&world).await.unwrap();
    let (_, batch) = messages.values().next().unwrap();
    let found = batch.column_by_name("guardrails").expect("a column").as_string::<i32>().clone();
    let found: Vec<_> = found.iter().collect();
    let clipped = Some("inputs[distance] range clip");
    assert_eq!(found, [None, None, None, clipped, None, Some("inputs[carrier] unseen flag")]);
    let distances = batch.column_by_name("in.distance").unwrap();
    assert!((distances.as_primitive::<arrow::datatypes::Float64Type>().value(3) - 9e9).abs() < 1.0, "as received");
    assert_eq!(distances.null_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_row_and_what_is_allowed() {
    let (_world, replica) = serving(|guardrails| {
        guardrails.inputs = vec![range("distance", 500.0, Action::Reject)];
        guardrails.outputs = vec![range("probability", 0.0, Action::Reject)];
    })
    .await;
    let refused = replica.infer(rows(501.0, "BB")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let field = refused.get_details_bad_request().unwrap().field_violations[0].clone();
    assert_eq!(field.field, "inputs[distance]");
    assert!(field.description.contains("row 1 is 501") && field.description.contains("at most 500"), "{refused}");
    let refused = replica.infer(rows(120.0, "BB")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("outputs[probability]: row 0"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guardrail_of_an_input_that_the_model_does_not_have_keeps_it_from_being_served() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let mut config: Config = world.config();
    let inputs = vec![range("speed", 1.0, Action::Flag)];
    config.guardrails.models = vec![ModelGuardrails {
        model: model(),
        inputs,
        outputs: Vec::new(),
        missing_values: Policy::Accept,
        unseen_categories: Policy::Accept,
    }];
    let _replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    let served = world.reports("a failure", |served| served.failure.is_some()).await;
    assert!(format!("{:?}", served.failure).contains("inputs[speed]"), "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_distribution_scores_are_returned_on_request() {
    let (_world, replica) = serving(|_| {}).await;
    assert!(!replica.infer(request(1)).await.unwrap().parameters.contains_key("outlier_scores"));
    let mut scored = rows(9e9, "ZZ");
    let set = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    scored.parameters.insert("outlier_scores".into(), set);
    let answer = replica.infer(scored).await.unwrap();
    let scores: Vec<f64> = serde_json::from_str(&parameter(&answer, "outlier_scores")).unwrap();
    // Distance and carrier of the second row are beyond all 400 reference rows; the delay of both is missing, as in 58 of them.
    let (beyond, missing) = (401.0_f64.ln(), -(59.0 / 401.0_f64).ln());
    assert!((scores[1] - (2.0 * beyond + missing) / 3.0).abs() < 1e-9, "{scores:?}");
    assert!(scores[0] < 2.0, "{scores:?}");
}
