//! The protocol as a client uses it.

use rekindle_client::wire::raw;
use rekindle_domain::ServedModel;
use rekindle_proto::inference::{
    InferParameter, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor,
};
use rekindle_proto::replica::inference_client::InferenceClient;
use rekindle_runtime::telemetry;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{MODEL, Replica, World, model, parameter, request};

async fn serving() -> (World, Replica) {
    let world = World::start().await;
    let (version, _) = world.publish(7).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    (world, replica)
}

fn output(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor { name: name.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_its_provenance() {
    let (_world, replica) = serving().await;
    let answer =
        replica.infer(rekindle_proto::inference::ModelInferRequest { id: "mine".into(), ..request(3) }).await.unwrap();
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str(), answer.id.as_str()), (MODEL, "7", "mine"));
    assert!(parameter(&answer, "bundle_digest").starts_with("sha256:"));
    assert!(parameter(&answer, "dataset_digests").starts_with("sha256:"));
    assert_eq!(parameter(&answer, "run_id"), "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20");
    assert_eq!(parameter(&answer, "code_revision"), "4f2a9c1");
    assert_eq!(parameter(&answer, "replica"), "replica-1");
    let id: uuid::Uuid = parameter(&answer, "prediction_id").parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_raw_and_a_row_does_not_depend_on_its_neighbours() {
    let (_world, replica) = serving().await;
    let (one, many) = (replica.infer(request(1)).await.unwrap(), replica.infer(request(300)).await.unwrap());
    let names: Vec<_> = many.outputs.iter().map(|output| (output.name.as_str(), output.datatype.as_str())).collect();
    assert_eq!(names, [("probability", "FP32"), ("label", "BYTES")]);
    assert_eq!((&one.outputs[0].shape[..], &many.outputs[0].shape[..]), (&[1, 1][..], &[300, 1][..]));
    assert_eq!(many.raw_output_contents[0], one.raw_output_contents[0].repeat(300));
    assert_eq!(many.raw_output_contents[1], one.raw_output_contents[1].repeat(300));
    let label = &one.raw_output_contents[1];
    assert!(label[..] == *b"\x03\0\0\0yes" || label[..] == *b"\x02\0\0\0no", "{label:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_requested_outputs_are_returned() {
    let (_world, replica) = serving().await;
    let mut selecting = request(2);
    selecting.outputs = vec![output("label")];
    let answer = replica.infer(selecting.clone()).await.unwrap();
    assert_eq!((answer.outputs.len(), answer.raw_output_contents.len()), (1, 1));
    assert_eq!(answer.outputs[0].name, "label");
    for (outputs, words) in [(["score", "label"], "its outputs are probability, label"), (["label", "label"], "twice")]
    {
        selecting.outputs = outputs.map(output).to_vec();
        let refused = replica.infer(selecting.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_with_the_name_of_the_field_and_change_nothing() {
    let (world, replica) = serving().await;
    let before = answered(&world.reports("a report", |served| served.primary.is_some()).await).0;

    let mut bad = request(1);
    bad.inputs[1].name = "distanse".into();
    let refused = replica.infer(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "inputs[distanse]");

    let mut elsewhere = request(1);
    elsewhere.model_name = "weather".into();
    let refused = replica.infer(elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("it serves flight-delay"), "{refused}");

    let mut older = request(1);
    older.model_version = "6".into();
    let refused = replica.infer(older.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("request version 7, or no version"), "{refused}");
    older.model_version = "7".into();
    replica.infer(older).await.unwrap();

    world.reports("one answer and no failure of the model", |served| answered(served) == (before + 1, 0)).await;
}

/// Requests answered by version 7, and failed in it.
fn answered(served: &ServedModel) -> (u64, u64) {
    let loaded = &served.versions[&7];
    (loaded.answered, loaded.failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_event_time_is_refused() {
    use rekindle_proto::inference::{InferParameter, infer_parameter::ParameterChoice};
    let (_world, replica) = serving().await;
    let at = |choice| {
        let mut request = request(1);
        request.parameters.insert("event_time".into(), InferParameter { parameter_choice: Some(choice) });
        request
    };
    replica.infer(at(ParameterChoice::StringParam("2026-03-01T12:00:00+01:00".into()))).await.unwrap();
    replica.infer(at(ParameterChoice::Int64Param(1_772_366_400_000))).await.unwrap();
    for choice in [
        ParameterChoice::StringParam("yesterday".into()),
        ParameterChoice::Int64Param(i64::MAX),
        ParameterChoice::BoolParam(true),
    ] {
        let refused = replica.infer(at(choice)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("parameters[event_time]"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_readiness_conform_to_the_protocol() {
    let (_world, replica) = serving().await;
    let mut client = replica.client.clone();
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "rekindle");
    assert!(server.extensions.iter().any(|extension| extension == "statistics"), "{:?}", server.extensions);

    for (name, version, expected) in
        [(MODEL, "", true), (MODEL, "7", true), (MODEL, "6", false), ("weather", "", false)]
    {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        assert_eq!(client.model_ready(request).await.unwrap().into_inner().ready, expected, "{name} {version}");
    }

    let request = ModelMetadataRequest { name: MODEL.into(), version: String::new() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(metadata.versions, ["7"]);
    let inputs: Vec<_> = metadata.inputs.iter().map(|input| (input.name.as_str(), input.datatype.as_str())).collect();
    assert_eq!(inputs, [("distance", "FP64"), ("delay", "FP64"), ("carrier", "BYTES")]);
    assert!(metadata.inputs.iter().chain(&metadata.outputs).all(|tensor| tensor.shape == [-1, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_deployment_is_no_longer_served() {
    let (world, replica) = serving().await;
    world.bus.routes().await.unwrap().delete(MODEL).await.unwrap();
    rekindle_testkit::eventually("the model to be gone", async || match replica.infer(request(1)).await {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(!world.config().cache_dir.join(format!("desired/{}.json", model())).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_a_help_text() {
    let prometheus = telemetry::prometheus();
    let (_world, replica) = serving().await;
    replica.infer(request(1)).await.unwrap();
    let text = prometheus.render();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, _)| name);
    let ours: Vec<_> = names.filter(|name| name.starts_with("rekindle_inference_")).collect();
    assert!(ours.contains(&"rekindle_inference_requests_total"), "{ours:?}");
    for name in ours {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text");
    }
}

fn doubles(raw: &[u8]) -> Vec<f64> {
    raw::decode(raw, f64::from_le_bytes).expect("doubles")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explained_answer_has_the_contribution_of_each_feature() {
    let (_world, replica) = serving().await;
    let plain = replica.infer(request(2)).await.unwrap();
    let mut with_parameter = request(2);
    let parameter_choice = Some(ParameterChoice::BoolParam(true));
    with_parameter.parameters.insert("explain".into(), InferParameter { parameter_choice });
    let explained = replica.infer(with_parameter.clone()).await.unwrap();
    assert_eq!(plain.raw_output_contents, explained.raw_output_contents[..2]);
    let names: Vec<_> = explained.outputs.iter().map(|output| (output.name.as_str(), &*output.shape)).collect();
    assert_eq!(names[2..], [("contributions", &[2, 3][..]), ("baseline", &[2, 1])]);
    let (contributions, baselines) =
        (doubles(&explained.raw_output_contents[2]), doubles(&explained.raw_output_contents[3]));
    let probabilities = raw::decode(&explained.raw_output_contents[0], f32::from_le_bytes).expect("singles");
    for (row, probability) in probabilities.iter().enumerate() {
        let log_odds = f64::from(*probability / (1.0 - *probability)).ln();
        let difference = log_odds - baselines[row];
        let sum: f64 = contributions[3 * row..3 * row + 3].iter().sum();
        // The tolerance of the attribution, and the rounding of the probability to single precision.
        assert!((sum - difference).abs() <= 2e-3 * difference.abs().max(1.0), "{sum} explains {difference}");
    }
    let channel = replica.channel.clone();
    let through_call = InferenceClient::new(channel).explain(request(2)).await.unwrap().into_inner();
    assert_eq!(through_call.raw_output_contents, explained.raw_output_contents);

    let mut wrong = request(1);
    let parameter_choice = Some(ParameterChoice::StringParam("yes".into()));
    wrong.parameters.insert("explain".into(), InferParameter { parameter_choice });
    let many = ModelInferRequest { parameters: with_parameter.parameters, ..request(101) };
    for (request, words) in [(wrong, "expected true or false"), (many, "max_explained_rows")] {
        let refused = replica.infer(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
}
