use std::collections::BTreeMap;

use chrono::TimeDelta;
use rekindle_client::wire::time::to_wire;
use rekindle_proto::registry::{
    Alias, Approval, DeleteAliasRequest, GetAliasHistoryRequest, GetAliasProtectionRequest, GetAliasRequest,
    GetModelVersionRequest, ListReviewsRequest, ProtectAliasRequest, ReviewModelVersionRequest, SetAliasRequest,
    SwapAliasesRequest, get_model_version_request::Selector,
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
    reviews_are_compared_and_kept,
    two_aliases_are_swapped_at_once,
    a_deleted_alias_keeps_its_history,
    a_protected_alias_needs_approvals,
    sixty_four_promoters_make_one_history
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
        evidence: BTreeMap::from([("report".to_owned(), "r-17".to_owned())]),
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

async fn reviews_are_compared_and_kept(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    let mut models = sandbox.models.clone();
    let reviewed = models.review_model_version(review(Approval::Approved, 1)).await.expect("reviewed").into_inner();
    let given = reviewed.review.expect("a review");
    assert_eq!((given.approval(), given.by.as_str(), reviewed.revision), (Approval::Approved, "grace", 2));
    let stale = models.review_model_version(review(Approval::Rejected, 1)).await.expect_err("stale");
    assert_eq!(stale.code(), Code::Aborted);
    assert_eq!(reason(&stale, "actual").1, "2");
    models.review_model_version(review(Approval::Rejected, 2)).await.expect("reviewed");
    let request = ListReviewsRequest { model: "flight-delay".into(), version: 1, ..Default::default() };
    let listed = models.list_reviews(request.clone()).await.expect("there").into_inner().reviews;
    let approvals: Vec<_> =
        listed.iter().map(|review| (review.approval(), review.evidence["report"].as_str())).collect();
    assert_eq!(approvals, [(Approval::Rejected, "r-17"), (Approval::Approved, "r-17")]);
    let page = models.list_reviews(ListReviewsRequest { page_size: 1, ..request.clone() }).await.expect("there");
    let page_token = page.into_inner().next_page_token;
    let rest = models.list_reviews(ListReviewsRequest { page_token, ..request }).await.expect("there").into_inner();
    assert_eq!(rest.reviews, listed[1..]);
}

async fn named(sandbox: &Sandbox, alias: &str, version: u32) -> Result<Alias, Status> {
    let request = SetAliasRequest { model: "flight-delay".into(), alias: alias.into(), version, ..Default::default() };
    sandbox.models.clone().set_alias(by("ada", request)).await.map(tonic::Response::into_inner)
}

async fn two_aliases_are_swapped_at_once(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    sandbox.version("flight-delay", 2).await;
    named(&sandbox, "champion", 1).await.expect("new");
    named(&sandbox, "fallback", 2).await.expect("new");
    let swap = |revision| SwapAliasesRequest {
        model: "flight-delay".into(),
        one: "champion".into(),
        other: "fallback".into(),
        expected_revision_of_one: 1,
        expected_revision_of_other: revision,
        why: "wrong since noon".into(),
    };
    let stale = sandbox.models.clone().swap_aliases(swap(2)).await.expect_err("stale");
    assert_eq!((stale.code(), reason(&stale, "actual").1.as_str()), (Code::Aborted, "1"));
    let swapped = sandbox.models.clone().swap_aliases(by("ada", swap(1))).await.expect("swapped").into_inner();
    let (one, other) = (swapped.one.expect("set"), swapped.other.expect("set"));
    assert_eq!((one.version, one.revision, other.version, other.revision), (2, 2, 1, 2));
    // Each move has an event of its own.
    let moves: Vec<_> = sandbox.events(6).await.into_iter().filter(|event| event.kind.noun == "alias").collect();
    assert_eq!(moves.len(), 4);
    let same = SwapAliasesRequest { other: "champion".into(), ..swap(1) };
    assert_eq!(sandbox.models.clone().swap_aliases(same).await.expect_err("the same").code(), Code::InvalidArgument);
    let missing = SwapAliasesRequest { other: "nightly".into(), ..swap(1) };
    assert_eq!(sandbox.models.clone().swap_aliases(missing).await.expect_err("missing").code(), Code::NotFound);
}

async fn a_deleted_alias_keeps_its_history(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    let moved = set(&sandbox, 1, 0).await.expect("new");
    let request = |expected_revision| DeleteAliasRequest {
        model: "flight-delay".into(),
        alias: "champion".into(),
        expected_revision,
        why: "retired".into(),
    };
    let mut models = sandbox.models.clone();
    assert_eq!(models.delete_alias(request(7)).await.expect_err("stale").code(), Code::Aborted);
    let deleted = models.delete_alias(by("grace", request(1))).await.expect("deleted").into_inner();
    assert_eq!((deleted.deleted, deleted.version, deleted.revision, deleted.by.as_str()), (true, 1, 2, "grace"));
    assert_eq!(models.delete_alias(request(2)).await.expect_err("deleted").code(), Code::NotFound);
    let get = GetAliasRequest { model: "flight-delay".into(), alias: "champion".into() };
    assert_eq!(models.get_alias(get).await.expect_err("deleted").code(), Code::NotFound);
    let selector = Some(Selector::Version(1));
    let request = GetModelVersionRequest { model: "flight-delay".into(), selector };
    let version = models.get_model_version(request).await.expect("there").into_inner();
    assert!(version.aliases.is_empty(), "{version:?}");
    assert_eq!(history(&sandbox, moved.moved_at).await, [moved]);
    assert_eq!(history(&sandbox, deleted.moved_at).await, []);
    // Revisions continue, so that no two moves have the same.
    let again = set(&sandbox, 1, 0).await.expect("it does not exist");
    assert_eq!((again.revision, history(&sandbox, None).await.len()), (3, 3));
    let number = named(&sandbox, "12", 1).await.expect_err("a number");
    assert_eq!((number.code(), crate::sandbox::blamed(&number).as_str()), (Code::InvalidArgument, "alias"));
}

async fn a_protected_alias_needs_approvals(sandbox: Sandbox) {
    // Registered by ada.
    let request = rekindle_proto::registry::RegisterModelVersionRequest {
        idempotency_key: crate::sandbox::key(),
        model: "flight-delay".into(),
        bundle_digest: sandbox.bundle(&crate::sandbox::bundle("", vec![], 1)).await.to_string(),
        description: String::new(),
    };
    let mut models = sandbox.models.clone();
    let registered = models.register_model_version(by("ada", request)).await.expect("registered").into_inner();
    assert_eq!(registered.author, "ada");
    let protect = |approvals| ProtectAliasRequest {
        model: "flight-delay".into(),
        alias: "champion".into(),
        approvals,
        except_author: true,
        why: "four eyes".into(),
    };
    assert_eq!(models.protect_alias(protect(11)).await.expect_err("too many").code(), Code::InvalidArgument);
    let set_by = models.protect_alias(by("grace", protect(2))).await.expect("protected").into_inner();
    assert_eq!((set_by.approvals, set_by.by.as_str()), (2, "grace"));
    let get = GetAliasProtectionRequest { model: "flight-delay".into(), alias: "champion".into() };
    assert_eq!(models.get_alias_protection(get.clone()).await.expect("there").into_inner(), set_by);
    let approve = |who: &str, approval: Approval, revision: u64| {
        let mut request = review(approval, revision);
        request.metadata_mut().insert("rekindle-principal", who.parse().expect("ascii"));
        request
    };
    let steps = [
        // The author's approval does not count, nobody counts twice, and the last review of each counts.
        ("ada", Approval::Approved, "has 0 of 2"),
        ("grace", Approval::Approved, "has 1 (grace) of 2"),
        ("grace", Approval::Approved, "has 1 (grace) of 2"),
        ("grace", Approval::Pending, "has 0 of 2"),
        ("alan", Approval::Approved, "has 1 (alan) of 2"),
    ];
    for (revision, (who, approval, problem)) in (1..).zip(steps) {
        models.review_model_version(approve(who, approval, revision)).await.expect("reviewed");
        let refused = set(&sandbox, 1, 0).await.expect_err(problem);
        assert_eq!(
            (refused.code(), reason(&refused, "version").0.as_str()),
            (Code::FailedPrecondition, "ALIAS_PROTECTED")
        );
        assert!(refused.message().contains(problem), "{problem}: {refused}");
    }
    models.review_model_version(approve("edsger", Approval::Approved, 6)).await.expect("reviewed");
    set(&sandbox, 1, 0).await.expect("two others have approved it");
    models.protect_alias(protect(0)).await.expect("not protected");
    assert_eq!(models.get_alias_protection(get).await.expect("there").into_inner().approvals, 0);
}

/// Promoters read the alias and move it over the revision that they have read; each loser is told the revision that won.
async fn sixty_four_promoters_make_one_history(sandbox: Sandbox) {
    sandbox.version("flight-delay", 1).await;
    sandbox.version("flight-delay", 2).await;
    let promoters = (0..64_u32).map(|number| {
        let sandbox = &sandbox;
        async move {
            let mut expected = 0;
            loop {
                match set(sandbox, 1 + number % 2, expected).await {
                    Ok(moved) => return (moved.revision, moved.version),
                    Err(lost) => {
                        assert_eq!(lost.code(), Code::Aborted, "{lost}");
                        let actual: u64 = reason(&lost, "actual").1.parse().expect("a revision");
                        assert!(actual > expected, "{lost}");
                        expected = actual;
                    }
                }
            }
        }
    });
    let mut won = futures::future::join_all(promoters).await;
    won.sort_unstable();
    assert_eq!(won.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), (1..=64).collect::<Vec<_>>());
    let request = GetAliasHistoryRequest {
        model: "flight-delay".into(),
        alias: "champion".into(),
        page_size: 500,
        ..Default::default()
    };
    let mut kept = sandbox.models.clone().get_alias_history(request).await.expect("there").into_inner().moves;
    kept.reverse();
    assert_eq!(kept.iter().map(|moved| (moved.revision, moved.version)).collect::<Vec<_>>(), won);
    assert!(kept.is_sorted_by_key(|moved| time(moved.moved_at)));
}
