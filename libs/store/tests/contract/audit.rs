//! The audit trail: entries are sealed in order, and what is flipped, dropped, swapped or truncated afterwards is found.

use rekindle_domain::audit::{Entry, Filter, Seal, Verification};
use rekindle_store::{
    audit::{self, Change},
    in_transaction, outbox,
    sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr},
};
use uuid::Uuid;

use super::{Store, event, now, on_both};

on_both! {
    entries_are_sealed_in_order_and_listed
    a_changed_trail_is_found
    a_trail_that_was_rewritten_is_found_by_what_was_published
    a_change_is_recorded_with_its_event_or_not_at_all
    writers_and_sealers_at_the_same_time_lose_no_entry
}

pub(super) fn entry(n: u32) -> Entry {
    Entry {
        request_id: Uuid::from_u128(n.into()),
        actor: if n.is_multiple_of(2) { "ada" } else { "grace" }.into(),
        action: if n.is_multiple_of(3) { "alias.moved" } else { "model-version.reviewed" }.into(),
        object: format!("alias/model-{}", n % 5),
        before: String::new(),
        after: format!("{{\"n\": {n}, \"text\": \"ä\"}}"),
        reason: "because".into(),
        correlation_id: String::new(),
        time: now() + chrono::TimeDelta::microseconds(n.into()),
    }
}

/// The database with so many sealed entries and no others.
async fn sealed(store: &Store, count: u32) -> DatabaseConnection {
    let db = store.migrated().await;
    for statement in ["DELETE FROM audit", "UPDATE audit_head SET entries = 0, hash = ''"] {
        db.execute_unprepared(statement).await.expect("executed");
    }
    in_transaction::<_, DbErr, _>(&db, async move |txn| {
        for n in 1..=count {
            audit::append(txn, entry(n)).await?;
        }
        Ok(())
    })
    .await
    .expect("it commits");
    audit::seal(&db).await.expect("sealed");
    db
}

async fn verify(db: &DatabaseConnection, published: &[Seal]) -> Verification {
    audit::verify(db, published).await.expect("readable")
}

/// The positions of faults after a change.
async fn faults_after(store: &Store, count: u32, statements: &[&str]) -> Vec<u64> {
    let db = sealed(store, count).await;
    for statement in statements {
        db.execute_unprepared(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    verify(&db, &[]).await.faults.iter().map(|fault| fault.position).collect()
}

async fn entries_are_sealed_in_order_and_listed(store: Store) {
    let db = sealed(&store, 600).await;
    let found = verify(&db, &[]).await;
    assert_eq!((found.entries, found.faults.len(), found.published), (600, 0, 0));
    let head = audit::head(&db).await.expect("readable").expect("sealed");
    assert_eq!((head.position, &head.hash), (600, &found.hash));

    let list = async |filter: Filter, after| audit::list(&db, &filter, after, 4).await.expect("readable");
    let newest = list(Filter::default(), None).await;
    assert_eq!(
        newest.iter().map(|(_, sealed)| sealed.entry.clone()).collect::<Vec<_>>(),
        [600, 599, 598, 597].map(entry)
    );
    let last = newest.last().map(|(key, _)| *key);
    assert_eq!(list(Filter::default(), last).await[0].1.entry, entry(596));
    let first = list(Filter { ascending: true, ..Filter::default() }, None).await;
    // Anybody can compute the chain.
    let hashes = first.iter().scan(String::new(), |previous, (_, sealed)| {
        let seal = sealed.seal.clone().expect("sealed");
        let hash = sealed.entry.hash(seal.position, previous);
        previous.clone_from(&seal.hash);
        Some(hash == seal.hash)
    });
    assert!(hashes.eq([true; 4]));
    for (filter, expected) in [
        (Filter { actor: "ada".into(), ..Filter::default() }, [600, 598, 596, 594]),
        (Filter { action: "alias".into(), ..Filter::default() }, [600, 597, 594, 591]),
        (
            Filter { action: "alias.moved".into(), object: "alias/model-1".into(), ..Filter::default() },
            [591, 576, 561, 546],
        ),
        (Filter { object: "alias/model-1".into(), actor: "grace".into(), ..Filter::default() }, [591, 581, 571, 561]),
        (Filter { until: Some(entry(100).time), ..Filter::default() }, [99, 98, 97, 96]),
        (Filter { since: Some(entry(100).time), ascending: true, ..Filter::default() }, [100, 101, 102, 103]),
    ] {
        let found: Vec<_> = list(filter.clone(), None).await.into_iter().map(|(_, sealed)| sealed.entry).collect();
        assert_eq!(found, expected.map(entry), "{filter:?}");
    }
    assert!(list(Filter { action: "alias.move".into(), ..Filter::default() }, None).await.is_empty());
    assert!(list(Filter { object: "%".into(), ..Filter::default() }, None).await.is_empty());
}

async fn a_changed_trail_is_found(store: Store) {
    for (statement, positions) in [
        ("UPDATE audit SET actor = 'mallory' WHERE position = 7", vec![7]),
        ("UPDATE audit SET after = '{}' WHERE position = 300", vec![300]),
        ("UPDATE audit SET hash = 'x' WHERE position = 300", vec![300, 301]),
        ("DELETE FROM audit WHERE position = 1", vec![1]),
        ("DELETE FROM audit WHERE position BETWEEN 255 AND 258", vec![255]),
        ("DELETE FROM audit WHERE position > 310", vec![311]),
        ("DELETE FROM audit", vec![1]),
        // Without a hash it is old, too: entries are sealed within seconds.
        ("UPDATE audit SET position = NULL, hash = NULL WHERE position = 9", vec![0, 9]),
        ("UPDATE audit SET position = NULL WHERE position = 9", vec![0, 9]),
        ("UPDATE audit SET hash = NULL WHERE position = 9", vec![9, 9]),
        ("UPDATE audit SET position = 0 WHERE position = 9", vec![0, 9]),
        ("UPDATE audit SET position = -7, hash = NULL WHERE position = 312", vec![0, 312]),
        (
            "UPDATE audit SET position = 9223372036854775807, hash = NULL WHERE position = 312",
            vec![i64::MAX as u64, 312],
        ),
    ] {
        assert_eq!(faults_after(&store, 312, &[statement]).await, positions, "{statement}");
    }
    let swap = [
        "UPDATE audit SET position = 0 WHERE position = 20",
        "UPDATE audit SET position = 20 WHERE position = 21",
        "UPDATE audit SET position = 21 WHERE position = 0",
    ];
    assert_eq!(faults_after(&store, 30, &swap).await, [20, 21, 22]);
}

async fn a_trail_that_was_rewritten_is_found_by_what_was_published(store: Store) {
    let db = sealed(&store, 10).await;
    let published = [audit::head(&db).await.expect("readable").expect("sealed")];
    assert!(verify(&db, &published).await.faults.is_empty());
    // As whoever can write to the database and knows how entries are sealed.
    for statement in [
        "DELETE FROM audit WHERE position > 4",
        "UPDATE audit_head SET entries = 4, hash = (SELECT hash FROM audit WHERE position = 4)",
    ] {
        db.execute_unprepared(statement).await.expect("executed");
    }
    assert!(verify(&db, &[]).await.faults.is_empty(), "the database alone is consistent");
    let found = verify(&db, &published).await;
    assert_eq!((found.entries, found.published, found.faults[0].position), (4, 10, 5));
    for n in 11..=18 {
        audit::append(&db, entry(n)).await.expect("appended");
    }
    audit::seal(&db).await.expect("sealed");
    let found = verify(&db, &published).await;
    assert_eq!(found.faults.iter().map(|fault| fault.position).collect::<Vec<_>>(), [10]);
    assert!(found.faults[0].problem.contains("published"), "{found:?}");
}

async fn a_change_is_recorded_with_its_event_or_not_at_all(store: Store) {
    let db = store.migrated().await;
    let change = |n: u32| Change { event: event(n), actor: "ada".into(), before: Some(3.into()) };
    in_transaction::<_, DbErr, _>(&db, async move |txn| audit::record(txn, change(1)).await).await.expect("it commits");
    let refused: Result<(), DbErr> = in_transaction(&db, async move |txn| {
        audit::record(txn, change(2)).await?;
        Err(DbErr::Custom("rolled back".into()))
    })
    .await;
    refused.expect_err("rolled back");
    let found = audit::list(&db, &Filter::default(), None, 10).await.expect("readable");
    assert_eq!((found.len(), outbox::pending(&db).await), (1, Ok(1)));
    let sealed = &found[0].1;
    assert_eq!((sealed.entry.action.as_str(), sealed.entry.object.as_str()), ("alias.moved", "alias/flight-delay"));
    assert_eq!((sealed.entry.before.as_str(), sealed.entry.actor.as_str(), &sealed.seal), ("3", "ada", &None));
}

async fn writers_and_sealers_at_the_same_time_lose_no_entry(store: Store) {
    let db = store.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u32 {
        let db = db.clone();
        tasks.spawn(async move {
            for n in 0..20 {
                let append = async move |txn: &_| audit::append(txn, entry(1 + writer * 20 + n)).await;
                in_transaction::<_, DbErr, _>(&db, append).await.expect("it commits");
            }
        });
    }
    for _ in 0..2 {
        let db = db.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                audit::seal(&db).await.expect("sealed");
            }
        });
    }
    tasks.join_all().await;
    audit::seal(&db).await.expect("sealed");
    let found = verify(&db, &[]).await;
    assert_eq!((found.entries, found.faults), (160, vec![]));
}
