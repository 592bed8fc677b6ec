//! Malformed messages, which typed clients cannot send.

use rekindle_proto::monitor::{
    ExportLabelledRequest, GetWatchRequest, Outcome, ReportOutcomesRequest, SetWatchRequest,
    monitor_client::MonitorClient, outcome::Label,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{MODEL, World};

fn refused(status: Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().expect("details").field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invalid_field_is_named() {
    let world = World::on_sqlite().await;
    let mut client = MonitorClient::connect(world.first.address.clone()).await.expect("connects");
    let status = client.get_watch(GetWatchRequest { model: "Nope!".into() }).await.expect_err("no name");
    assert_eq!(refused(status), ["model"]);
    let status = client.set_watch(SetWatchRequest::default()).await.expect_err("no settings");
    assert_eq!(refused(status), ["watch"]);
    let number = |prediction_id: &str, number| Outcome {
        prediction_id: prediction_id.to_owned(),
        row: 0,
        label: Some(Label::Number(number)),
        ..Outcome::default()
    };
    let id = "0193b3a0-0000-7000-8000-000000000000";
    let outcomes = vec![number("?", 1.0), number(id, 1.0), number(id, f64::NAN), Outcome::default()];
    let request = ReportOutcomesRequest { model: MODEL.into(), outcomes, idempotency_key: String::new() };
    let status = client.report_outcomes(request).await.expect_err("three of them");
    assert_eq!(refused(status), ["outcomes[0].prediction_id", "outcomes[2].number", "outcomes[3].label"]);
    let key = "k".repeat(201);
    let request = ReportOutcomesRequest { model: MODEL.into(), outcomes: Vec::new(), idempotency_key: key };
    let status = client.report_outcomes(request).await.expect_err("no outcomes and a long key");
    assert_eq!(refused(status), ["outcomes", "idempotency_key"]);
    let status = client.export_labelled(ExportLabelledRequest::default()).await.expect_err("an empty request");
    assert_eq!(refused(status), ["model", "target", "time_column"]);
}
