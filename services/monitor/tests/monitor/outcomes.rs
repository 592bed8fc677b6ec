//! Outcomes are checked against the predictions that they are about.

use rekindle_domain::{
    PredictionId,
    outcome::{Label, Outcome},
    prediction_log::{AcceptedOutcomes, OutcomeCounts},
};
use rekindle_testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use crate::{
    fields,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle},
};

/// The counts of the outcomes once `expected` holds of them.
pub(crate) async fn counted(world: &World, expected: impl Fn(&OutcomeCounts) -> bool) -> OutcomeCounts {
    eventually("the outcomes to be checked", async || {
        let counts = world.client.capture_status(&crate::world::model()).await.map_err(|error| error.to_string())?;
        let counts = counts.outcome_counts;
        if expected(&counts) { Ok(counts) } else { Err(format!("{counts:?}")) }
    })
    .await
}

fn day(seed: u64, count: usize) -> Vec<Row> {
    rows(seed, count, START, START + DAY, Distribution::Reference)
}

/// The rows of the model, and those of another one.
async fn two_models(world: &World) -> (Vec<Row>, Vec<Row>) {
    let (ours, theirs) = (day(1, 10), day(2, 3));
    world.watch().await;
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&ours, 0)).await;
    let other = Replica::new(bundle(), "weather", 1).log(&theirs, 0);
    for (id, bytes) in other {
        world.publish_to("rekindle.predictions.weather", &id, bytes).await;
    }
    world.captured(10, 0).await;
    let weather = "weather".parse().expect("a valid name");
    crate::world::captured(&world.client, &weather, 3, 0).await;
    (ours, theirs)
}

fn line(prediction: PredictionId, row: u32, label: &str) -> String {
    format!("{{\"prediction_id\":\"{prediction}\",\"row\":{row},\"label\":{label}}}\n")
}

async fn each_is_counted_by_what_is_known_of_it(world: World) {
    let (ours, theirs) = two_models(&world).await;
    let unknown = PredictionId::new(Uuid::now_v7());
    let lines = [
        labels(&ours[..3]),
        line(unknown, 0, "\"1\""),
        line(ours[3].prediction(), 7, "\"1\""),
        line(theirs[0].prediction(), 0, "\"1\""),
        line(ours[4].prediction(), 0, "0.5"),
        "nonsense\n".to_owned(),
    ];
    world.outcomes("mixed", lines.concat()).await;
    let counts = counted(&world, |counts| counts.unmatched == 1).await;
    assert_eq!((counts.matched, counts.pending), (3, 0));
    assert_eq!(counts.refused().map(|(_, count)| count), [1, 1, 1, 1, 0, 1]);
    for (reason, example) in [
        ("unmatched", format!("row 0 of prediction {unknown}: the prediction was not logged")),
        ("row_out_of_range", format!("row 7 of prediction {}: the request has 1 rows", ours[3].id)),
        ("wrong_model", format!("row 0 of prediction {}: the prediction was made by weather", theirs[0].id)),
        ("invalid_label", format!("row 0 of prediction {}: the label is 0.5: expected a class", ours[4].id)),
        ("malformed", "\"nonsense\": not an outcome".to_owned()),
    ] {
        assert!(counts.examples[reason].starts_with(&example), "{reason}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_counted_by_what_is_known_of_it_on_sqlite() {
    each_is_counted_by_what_is_known_of_it(World::on_sqlite_with(&[("outcome_wait", "2s")]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_counted_by_what_is_known_of_it_on_postgres() {
    each_is_counted_by_what_is_known_of_it(World::on_postgres_with(&[("outcome_wait", "2s")]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_may_come_first() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let day = day(1, 10);
    let outcomes: Vec<Outcome> = day.iter().map(Row::outcome).collect();
    let accepted = world.client.report_outcomes(&crate::world::model(), &outcomes, "").await.expect("accepted");
    assert_eq!(accepted, AcceptedOutcomes { accepted: 10, matched: 0 });
    assert_eq!(counted(&world, |counts| counts.pending == 10).await.refused().map(|(_, count)| count), [0; 6]);
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&day, 0)).await;
    assert_eq!(counted(&world, |counts| counts.matched == 10).await.pending, 0);
    let again = world.client.report_outcomes(&crate::world::model(), &outcomes, "").await.expect("accepted");
    assert_eq!(again, AcceptedOutcomes { accepted: 10, matched: 10 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_outcomes_that_are_known_to_be_wrong_changes_nothing() {
    let world = World::on_sqlite().await;
    let (ours, theirs) = two_models(&world).await;
    let outcome = |row: &Row, index, label| Outcome::new(row.prediction(), index, label);
    let class = |class: &str| Label::Class(class.to_owned());
    let outcomes = [
        outcome(&ours[0], 0, class("1")),
        outcome(&ours[1], 1, class("1")),
        outcome(&theirs[0], 0, class("1")),
        outcome(&ours[2], 0, Label::Number(0.5)),
        // A class that the training data did not have is no error of the caller.
        outcome(&ours[3], 0, class("diverted")),
    ];
    let refused = world.client.report_outcomes(&crate::world::model(), &outcomes, "").await.expect_err("three of them");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["outcomes[1].row", "outcomes[2].prediction_id", "outcomes[3].label"]);
    let nobody = "nobody".parse().expect("a valid name");
    let refused = world.client.report_outcomes(&nobody, &outcomes[..1], "").await.expect_err("no such model");
    assert_eq!(refused.code(), Code::NotFound);
    let valid = [outcomes[0].clone(), outcomes[4].clone()];
    let accepted = world.client.report_outcomes(&crate::world::model(), &valid, "").await.expect("accepted");
    assert_eq!(accepted, AcceptedOutcomes { accepted: 2, matched: 2 });
    assert_eq!(counted(&world, |counts| counts.matched == 2).await.refused().map(|(_, count)| count), [0; 6]);
}
