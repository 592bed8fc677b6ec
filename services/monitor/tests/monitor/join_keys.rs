//! Outcomes by the client's request id, and by entity key and event time.

use std::collections::HashMap;

use rekindle_domain::{
    outcome::{Label, Outcome, PredictedRow},
    prediction_log::AcceptedOutcomes,
    report::WindowReport,
};
use tonic::Code;

use crate::{
    fields,
    outcomes::counted,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle, model, timestamp},
};

/// Rows of two days with a request id and an entity key each.
fn keyed() -> Vec<Row> {
    let mut rows = rows(1, 600, START, START + 2 * DAY, Distribution::Reference);
    for (index, row) in rows.iter_mut().enumerate() {
        row.request_id = Some(format!("order-{index}"));
        // An entity occurs more than once, at different times.
        row.entity_key = Some(format!("N{}", index % 7));
    }
    rows
}

/// Rows of the day after, so that the windows of the two days close.
fn next_day() -> Vec<Row> {
    rows(2, 300, START + 2 * DAY, START + 3 * DAY, Distribution::Reference)
}

fn by_request(row: &Row) -> Outcome {
    Outcome { row: PredictedRow::Request { id: row.request_id.clone().expect("keyed"), row: 0 }, label: row.label() }
}

fn by_entity(row: &Row) -> Outcome {
    let (key, event_time) = (row.entity_key.clone().expect("keyed"), timestamp(row.time));
    Outcome { row: PredictedRow::Entity { key, event_time }, label: row.label() }
}

/// Outcomes as lines on the bus.
fn lines(outcomes: impl Iterator<Item = Outcome>) -> String {
    outcomes.map(|outcome| String::from_utf8(outcome.to_json_line()).expect("JSON") + "\n").collect()
}

/// What a report says of quality and labels, by the begin of its window.
fn qualities(reports: &[WindowReport]) -> HashMap<i64, String> {
    let of = |report: &WindowReport| (report.window.from.timestamp_millis(), format!("{:?}", report.quality));
    reports.iter().map(of).collect()
}

/// The reports of the same rows with outcomes by prediction id.
async fn expected(rows: &[Row]) -> HashMap<i64, String> {
    let world = World::on_sqlite().await;
    world.watch().await;
    world.outcomes("labels", labels(rows)).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(rows, 0)).await;
    world.predictions(&replica.log(&next_day(), 0)).await;
    qualities(&world.reported(2, 2).await)
}

async fn the_key_of_an_outcome_does_not_matter(world: World) {
    let rows = keyed();
    let expected = expected(&rows).await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // A third before the predictions, by entity; the rest after them, by request, and some by both.
    world.outcomes("early", lines(rows[..200].iter().map(by_entity))).await;
    world.predictions(&replica.log(&rows, 0)).await;
    world.outcomes("late", lines(rows[150..].iter().map(by_request))).await;
    world.captured(600, 650).await;
    world.predictions(&replica.log(&next_day(), 0)).await;
    assert_eq!(qualities(&world.reported(2, 2).await), expected);
    let counts = counted(&world, |counts| counts.matched == 650).await;
    assert_eq!((counts.pending, counts.refused().map(|(_, count)| count)), (0, [0; 6]));
    let logged = world.client.prediction(rows[5].prediction(), 0).await.expect("logged");
    assert_eq!((logged.request_id.as_deref(), logged.entity_key.as_deref()), (Some("order-5"), Some("N5")));
    assert_eq!(logged.label, Some(rows[5].label()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_an_outcome_does_not_matter_on_sqlite() {
    Box::pin(the_key_of_an_outcome_does_not_matter(World::on_sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_an_outcome_does_not_matter_on_postgres() {
    Box::pin(the_key_of_an_outcome_does_not_matter(World::on_postgres().await)).await;
}

async fn unknown_and_repeated_keys_are_counted(world: World) {
    let mut rows = rows(1, 4, START, START + DAY, Distribution::Reference);
    for (row, id) in rows.iter_mut().zip(["once", "twice", "twice", "own"]) {
        row.request_id = Some(id.to_owned());
    }
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // In two messages, so that the second finds the key of the first in the index.
    world.predictions(&replica.log(&rows[..2], 0)).await;
    world.captured(2, 0).await;
    world.predictions(&replica.log(&rows[2..], 0)).await;
    world.captured(4, 0).await;
    let nobody = Row { request_id: Some("nobody".to_owned()), ..rows[0].clone() };
    let other_row = PredictedRow::Request { id: "own".to_owned(), row: 1 };
    let reported = [
        by_request(&rows[0]),
        by_request(&rows[1]),
        by_request(&nobody),
        Outcome { row: other_row, label: Label::Class("1".to_owned()) },
    ];
    world.outcomes("mixed", lines(reported.into_iter())).await;
    let counts = counted(&world, |counts| counts.unmatched == 2).await;
    assert_eq!((counts.matched, counts.pending, counts.ambiguous), (1, 0, 1));
    let example = "row 0 of request \"twice\": several predictions have this key";
    assert_eq!(counts.examples["ambiguous"], example);
    assert_eq!(world.status().await.outcomes, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_repeated_keys_are_counted_on_sqlite() {
    unknown_and_repeated_keys_are_counted(World::on_sqlite_with(&[("outcome_wait", "2s")]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_repeated_keys_are_counted_on_postgres() {
    unknown_and_repeated_keys_are_counted(World::on_postgres_with(&[("outcome_wait", "2s")]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_given_up_while_nothing_else_happens() {
    let world = World::on_sqlite_with(&[("outcome_wait", "2s")]).await;
    world.watch().await;
    let nobody = Row { request_id: Some("nobody".to_owned()), ..keyed().remove(0) };
    world.outcomes("unknown", lines([by_request(&nobody)].into_iter())).await;
    let counts = counted(&world, |counts| counts.unmatched == 1).await;
    assert_eq!((counts.pending, counts.matched), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_checked_by_any_key() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut rows = keyed();
    rows.truncate(4);
    rows[3].request_id = rows[2].request_id.clone();
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&rows, 0)).await;
    world.captured(4, 0).await;
    let fraction = Outcome { label: Label::Number(0.5), ..by_request(&rows[0]) };
    let outcomes = [by_request(&rows[0]), by_request(&rows[2]), fraction];
    let refused = world.client.report_outcomes(&model(), &outcomes, "").await.expect_err("two of them");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["outcomes[1].request_id", "outcomes[2].label"]);
    let unknown = PredictedRow::Entity { key: "N1".to_owned(), event_time: timestamp(rows[1].time + 1) };
    let pending = Outcome { row: unknown, label: rows[1].label() };
    let by_prediction = Outcome::new(rows[3].prediction(), 0, rows[3].label());
    let valid = [by_request(&rows[0]), by_entity(&rows[1]), by_prediction, pending];
    let accepted = world.client.report_outcomes(&model(), &valid, "").await.expect("accepted");
    assert_eq!(accepted, AcceptedOutcomes { accepted: 4, matched: 3 });
    let counts = counted(&world, |counts| counts.matched == 3).await;
    assert_eq!(counts.pending, 1);
    let label = world.client.prediction(rows[1].prediction(), 0).await.expect("logged").label;
    assert_eq!(label, Some(rows[1].label()));
}
