//! Messages that no typed client sends.

use rekindle_client::wire;
use rekindle_domain::Digest;
use rekindle_integration_tests::{Clients, scenario};
use rekindle_proto::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    orchestrator::{DeployRequest, orchestrator_client::OrchestratorClient},
    registry::{RegisterVersionRequest, datasets_client::DatasetsClient},
};
use tonic::Code;

use crate::{expect, good};

pub(crate) async fn malformed_messages(clients: &Clients) {
    part_of_an_element(clients).await;
    not_a_dataset_name(clients).await;
    not_a_model_name(clients).await;
}

async fn part_of_an_element(clients: &Clients) {
    let mut request = wire::inference::request_to_wire(good());
    let index = request.inputs.iter().position(|input| input.name == "temperature").expect("an input");
    request.raw_input_contents[index].truncate(5);
    let address = format!("http://{}", clients.inference[0]);
    let mut replica = GrpcInferenceServiceClient::connect(address).await.expect("connected");
    let status = replica.model_infer(request).await.expect_err("5 bytes are no number");
    expect("wrong length", &status, Code::InvalidArgument, &["temperature"]);
}

async fn not_a_dataset_name(clients: &Clients) {
    let good = scenario::registration(scenario::dataset(), Digest::of(b"?"));
    let good = wire::dataset::registration_to_wire(&good, "bad name".into());
    let request = RegisterVersionRequest { name: "Bad Name".into(), ..good };
    let mut datasets = DatasetsClient::connect(clients.registry.clone()).await.expect("connected");
    let status = datasets.register_version(request).await.expect_err("a bad name");
    expect("bad name", &status, Code::InvalidArgument, &["name", "a-z"]);
}

async fn not_a_model_name(clients: &Clients) {
    let request = DeployRequest {
        idempotency_key: "no/model".into(),
        model: "no/model".into(),
        version: Some(1),
        ..DeployRequest::default()
    };
    let mut orchestrator = OrchestratorClient::connect(clients.orchestrator.clone()).await.expect("connected");
    let status = orchestrator.deploy(request).await.expect_err("no name");
    expect("not a name", &status, Code::InvalidArgument, &["model"]);
}
