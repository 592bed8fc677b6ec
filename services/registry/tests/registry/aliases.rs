use chrono::TimeDelta;
use rekindle_client::wire::time::to_wire;
use rekindle_proto::registry::{
    Alias, Approval, GetAliasHistoryRequest, GetAliasRequest, GetModelVersionRequest, ReviewModelVersionRequest,
    SetAliasRequest, get_model_version_request::Selector,
};
use tonic::{Code, Request, Status};

use crate::{
    on_both,
    sandbox::{Sandbox, by, reason, time},
};

on_both!(
    moves_are_compared_published_and_kept,
    one_of_many_movers_wins,
    a_rejected_version_gets_no_alias,
    reviews_are_compared
);

async fn set(sandbox: &Sandbox, version: u32, expected_revision: u64) -> Result<Alias, Status> {
    let request = SetAliasRequest {
        model: "flight-delay".into(),
        alias: "champion".into(),
        version,
        expected_revision,
        why: "it is better".into(),
    };
    sandbox.models.clone().set_alias(by("ada", request)).await.map(tonic::Response::into_inner)
}

async fn history(sandbox: &Sandbox, at: Option<prost_types::Timestamp>) -> Vec<Alias> {
    let request =
        GetAliasHistoryRequest { model: "flight-delay".into(), alias: "champion".into(), at, ..Default::default() };
    sandbox.models.clone().get_alias_history(request).await.expect("there").into_inner().moves
}

async fn moves_are_compared_published_and_kept(sandbox: Sandbox) {
    let first = sandbox.version("flight-delay", 1).await;
    sandbox.version("flight-delay", 2).await;
    let one = set(&sandbox, 1, 0).await.expect("new");
    assert_eq!((one.revision, &one.bundle_digest), (1, &first.bundle_digest));
    assert_eq!(one.by, "ada", "the author is the principal of the call");
    let stale = set(&sandbox, 2, 0).await.expect_err("it exists");
    assert_eq!(stale.code(), Code::Aborted);
    assert_eq!(reason(&stale, "actual"), ("STALE_REVISION".to_owned(), "1".to_owned()));
    assert!(stale.message().contains("revision 1") && stale.message().contains("expects 0"), "{stale}");
    let two = set(&sandbox, 2, 1).await.expect("moved");
    let three = set(&sandbox, 1, 2).await.expect("moved back");

    assert_eq!(history(&sandbox, None).await, [three.clone(), two.clone(), one.clone()]);
    assert_eq!(history(&sandbox, two.moved_at).await, std::slice::from_ref(&two));
    let before = time(two.moved_at) - TimeDelta::microseconds(1);
    assert_eq!(history(&sandbox, Some(to_wire(before))).await, std::slice::from_ref(&one));
    let before = time(one.moved_at) - TimeDelta::microseconds(1);
    assert_eq!(history(&sandbox, Some(to_wire(before))).await, []);

    let request = GetAliasRequest { model: "flight-delay".into(), alias: "champion".into() };
    assert_eq!(sandbox.models.clone().get_alias(request).await.expect("there").into_inner(), three);
    let selector = Some(Selector::Alias("champion".into()));
    let request = GetModelVersionRequest { model: "flight-delay".into(), selector };
    let served = sandbox.models.clone().get_model_version(request).await.expect("there").into_inner();
    assert_eq!((served.version, served.aliases), (1, vec!["champion".to_owned()]));

    let events = sandbox.events(5).await;
    let moves: Vec<_> = events.iter().filter(|event| event.kind.noun == "alias").collect();
    let versions: Vec<_> =
        moves.iter().map(|event| (event.data["from_version"].clone(), event.data["version"].clone())).collect();
    assert_eq!(versions, [(0.into(), 1.into()), (1.into(), 2.into()), (2.into(), 1.into())]);
}

async fn one_of_many_movers_wins(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    for expected in 0..3 {
        let moves = futures::future::join_all((0..8).map(|_| set(&sandbox, 1, expected))).await;
        let won = moves.iter().filter(|moved| moved.is_ok()).count();
        assert_eq!(won, 1, "{moves:?}");
        assert!(
            moves.iter().filter_map(|moved| moved.as_ref().err()).all(|lost| lost.code() == Code::Aborted),
            "{moves:?}"
        );
    }
    assert_eq!(history(&sandbox, None).await.len(), 3);
}

fn review(approval: Approval, expected_revision: u64) -> Request<ReviewModelVersionRequest> {
    let request = ReviewModelVersionRequest {
        model: "flight-delay".into(),
        version: 1,
        approval: approval.into(),
        why: "it leaks the label".into(),
        expected_revision,
    };
    by("grace", request)
}

async fn a_rejected_version_gets_no_alias(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    sandbox.models.clone().review_model_version(review(Approval::Rejected, 1)).await.expect("reviewed");
    let refused = set(&sandbox, 1, 0).await.expect_err("rejected");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused, "version"), ("VERSION_REJECTED".to_owned(), "1".to_owned()));
    assert!(refused.message().contains("grace") && refused.message().contains("leaks"), "{refused}");
    sandbox.models.clone().review_model_version(review(Approval::Approved, 2)).await.expect("reviewed");
    set(&sandbox, 1, 0).await.expect("approved");
}

async fn reviews_are_compared(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    let mut models = sandbox.models.clone();
    let reviewed = models.review_model_version(review(Approval::Approved, 1)).await.expect("reviewed").into_inner();
    let given = reviewed.review.expect("a review");
    assert_eq!((given.approval(), given.by.as_str(), reviewed.revision), (Approval::Approved, "grace", 2));
    let stale = models.review_model_version(review(Approval::Rejected, 1)).await.expect_err("stale");
    assert_eq!(stale.code(), Code::Aborted);
    assert_eq!(reason(&stale, "actual").1, "2");
}
