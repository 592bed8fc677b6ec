//! Callers that are dropped at any point of a transaction, beside others.

use std::{collections::BTreeSet, time::Duration};

use rekindle_domain::audit::{Entry, Filter};
use rekindle_store::{
    audit, in_transaction,
    sea_orm::{DatabaseConnection, DbErr},
};
use uuid::Uuid;

use super::{Store, audit::entry, now, on_both};

on_both! {
    what_is_acknowledged_is_there_and_the_rest_is_whole_or_absent
    an_error_comes_from_what_was_committed
}

/// Pseudo-random numbers below a bound, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Two entries, of one transaction.
fn pair(number: u32) -> [Uuid; 2] {
    [0, 1].map(|half| Uuid::from_u128(u128::from(number) * 2 + half))
}

async fn append(db: &DatabaseConnection, number: u32, fails: bool) -> Result<(), DbErr> {
    in_transaction(db, async move |txn| {
        for request_id in pair(number) {
            audit::append(txn, Entry { request_id, ..entry(1) }).await?;
        }
        if fails { Err(DbErr::Custom("refused".to_owned())) } else { Ok(()) }
    })
    .await
}

async fn what_is_acknowledged_is_there_and_the_rest_is_whole_or_absent(store: Store) {
    const WRITERS: u32 = 16;
    const EACH: u32 = 60;
    let db = store.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let db = db.clone();
        tasks.spawn(async move {
            let (mut numbers, mut ends) = (Numbers(writer.into()), Vec::new());
            for n in 0..EACH {
                let (number, fails) = (1 + writer * EACH + n, numbers.below(8) == 0);
                let patience = if numbers.below(3) == 0 { 60_000_000 } else { numbers.below(6_000) };
                let appended = append(&db, number, fails);
                let end = tokio::time::timeout(Duration::from_micros(patience), appended).await;
                ends.push((number, fails, end.ok()));
            }
            ends
        });
    }
    let ends: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    // Another transaction comes after all that were given up.
    append(&db, 0, false).await.expect("it commits");
    let all = audit::list(&db, &Filter::default(), None, u64::from(2 * WRITERS * EACH) + 2).await;
    let found: BTreeSet<Uuid> = all.expect("readable").into_iter().map(|(_, sealed)| sealed.entry.request_id).collect();
    let (mut acknowledged, mut dropped) = (0, 0);
    for (number, fails, end) in ends {
        let there = pair(number).map(|id| found.contains(&id));
        assert_eq!(there[0], there[1], "transaction {number} is there by half");
        match end {
            Some(Ok(())) => {
                assert!(there[0] && !fails, "transaction {number} was acknowledged");
                acknowledged += 1;
            }
            Some(Err(error)) => assert!(!there[0] && fails, "transaction {number}: {error}"),
            None => {
                assert!(!there[0] || !fails, "transaction {number} failed");
                dropped += 1;
            }
        }
    }
    assert!(acknowledged > WRITERS && dropped > WRITERS, "{acknowledged} acknowledged, {dropped} dropped");
}

/// A transaction that ends with an error because of what another one has written, in turn with it, returns that error only if the other is committed.
async fn an_error_comes_from_what_was_committed(store: Store) {
    let db = store.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u32 {
        let db = db.clone();
        tasks.spawn(async move {
            let insert = async move |txn: &_| {
                let head = audit::list(txn, &Filter::default(), None, 10).await?;
                if let Some((_, first)) = head.into_iter().next_back() {
                    return Err(DbErr::Custom(first.entry.actor));
                }
                let first = Entry { actor: format!("writer {writer}"), time: now(), ..entry(1) };
                audit::append(txn, first).await
            };
            in_transaction::<_, DbErr, _>(&db, insert).await.map(|()| writer)
        });
    }
    let ends = tasks.join_all().await;
    let winners: Vec<u32> = ends.iter().filter_map(|end| end.as_ref().ok().copied()).collect();
    assert_eq!(winners.len(), 1, "{ends:?}");
    let named = DbErr::Custom(format!("writer {}", winners[0]));
    assert!(ends.iter().all(|end| end.as_ref().err().is_none_or(|error| *error == named)), "{ends:?}");
}
