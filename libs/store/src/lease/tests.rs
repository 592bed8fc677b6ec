//! Leases over time, on clocks that the tests set, on SQLite and on PostgreSQL.

use std::{cell::Cell, time::Duration};

use rekindle_testkit::Postgres;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, TransactionTrait as _};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::time::Instant;

use super::{Fence, LeaseError, Leases, keeper::Keeper};
use crate::{Config, connect, in_transaction, migrate, transaction};

const LENGTH: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "flight-delay";

struct Shared;

impl MigratorTrait for Shared {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        crate::migrations::shared()
    }
}

macro_rules! on_both {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                let folder = tempfile::tempdir().expect("a folder");
                super::$test(super::open(format!("sqlite://{}/test.db", folder.path().display())).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                let server = super::Postgres::start().await;
                super::$test(super::open(server.fresh_database().await).await).await;
            })*
        }
    };
}

on_both! {
    a_lease_that_nobody_holds_is_acquired_at_once
    a_holder_that_renews_keeps_its_lease
    a_silent_holder_is_succeeded_after_the_length_and_not_before
    a_late_renewal_starts_the_observation_again
    a_holder_that_was_only_late_goes_on_under_its_epoch
    a_released_lease_is_acquired_at_once
    hundreds_of_leases_change_hands_in_one_turn
    an_instance_that_restarts_is_another_holder
}

async fn open(url: String) -> DatabaseConnection {
    let db = connect(&Config { max_connections: 8, ..Config::at(url) }).await.expect("it opens");
    migrate::<Shared>(&db).await.expect("an empty database");
    db
}

/// True time, which no instance sees.
struct Time(Cell<Duration>);

impl Time {
    fn start() -> Self {
        Self(Cell::new(Duration::ZERO))
    }

    fn advance(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }
}

/// An instance whose clock shows true time plus its own offset.
struct Instance {
    leases: Leases,
    zero: Instant,
}

impl Instance {
    fn new(db: &DatabaseConnection, name: &str, offset: Duration) -> Self {
        let leases = Leases::new(db.clone(), name.to_owned(), LENGTH);
        leases.claim(NAME);
        Self { leases, zero: Instant::now() + offset }
    }

    fn keeper<'a>(&'a self, time: &'a Time) -> Keeper<'a, impl Fn() -> Instant> {
        Keeper::new(&self.leases.shared, || self.zero + time.0.get())
    }

    fn fence(&self, time: &Time) -> Option<Fence> {
        self.leases.shared.fence(NAME, self.zero + time.0.get())
    }

    fn epoch(&self, time: &Time) -> Option<i64> {
        self.fence(time).map(|fence| fence.epoch())
    }
}

async fn check(db: &DatabaseConnection, fence: &Fence) -> Result<(), LeaseError> {
    let fence = fence.clone();
    in_transaction(db, async move |txn| fence.check(txn).await).await
}

async fn a_lease_that_nobody_holds_is_acquired_at_once(db: DatabaseConnection) {
    let (time, a) = (Time::start(), Instance::new(&db, "a", Duration::ZERO));
    let mut changes = a.leases.subscribe();
    assert_eq!(a.fence(&time), None);
    a.keeper(&time).turn().await.expect("a turn");
    let fence = a.fence(&time).expect("held");
    assert_eq!((fence.name(), fence.epoch()), (NAME, 1));
    assert!(changes.has_changed().expect("the sender lives"));
    changes.mark_unchanged();
    check(&db, &fence).await.expect("the holder may write");
    a.keeper(&time).turn().await.expect("a turn");
    assert!(!changes.has_changed().expect("the sender lives"), "a renewal is not a change");
}

async fn a_holder_that_renews_keeps_its_lease(db: DatabaseConnection) {
    for offset in [Duration::ZERO, DAY] {
        let time = Time::start();
        let (a, b) = (Instance::new(&db, "a", DAY - offset), Instance::new(&db, "b", offset));
        let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
        keeper_a.turn().await.expect("a turn");
        let held = a.epoch(&time).expect("nobody holds it");
        for _ in 0..20 {
            keeper_a.turn().await.expect("a turn");
            keeper_b.turn().await.expect("a turn");
            time.advance(LENGTH / 5);
            assert_eq!((a.epoch(&time), b.epoch(&time)), (Some(held), None));
        }
        a.leases.release(NAME);
        keeper_a.turn().await.expect("a turn");
    }
}

/// Also where the candidate's clock is a day ahead of the holder's, or a day behind.
async fn a_silent_holder_is_succeeded_after_the_length_and_not_before(db: DatabaseConnection) {
    for (round, offset) in (0..).zip([Duration::ZERO, DAY, DAY * 2]) {
        let time = Time::start();
        let (a, b) = (Instance::new(&db, "a", DAY), Instance::new(&db, "b", offset));
        let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
        keeper_a.turn().await.expect("a turn");
        let stale = a.fence(&time).expect("nobody holds it");
        assert_eq!(stale.epoch(), 1 + 3 * round);
        keeper_b.turn().await.expect("a turn");
        time.advance(LENGTH - Duration::from_millis(1));
        assert_eq!(a.fence(&time), None, "the holder ceases to act before a candidate begins to");
        keeper_b.turn().await.expect("a turn");
        assert_eq!(b.fence(&time), None, "seen unchanged for less than the length");
        check(&db, &stale).await.expect("nobody has taken over");
        time.advance(Duration::from_millis(1));
        keeper_b.turn().await.expect("a turn");
        let fence = b.fence(&time).expect("taken over");
        assert_eq!(fence.epoch(), stale.epoch() + 1);
        check(&db, &fence).await.expect("the new holder may write");
        let refused = check(&db, &stale).await.expect_err("the old holder may not");
        assert!(
            matches!(&refused, LeaseError::Lost { name, epoch } if name == NAME && *epoch == stale.epoch()),
            "{refused}"
        );
        // The old holder continues, and finds out.
        keeper_a.turn().await.expect("a turn");
        assert_eq!(a.fence(&time), None);
        b.leases.release(NAME);
        keeper_b.turn().await.expect("a turn");
        keeper_a.turn().await.expect("a turn");
        assert_eq!(a.epoch(&time), Some(stale.epoch() + 2));
        a.leases.release(NAME);
        keeper_a.turn().await.expect("a turn");
    }
}

async fn a_late_renewal_starts_the_observation_again(db: DatabaseConnection) {
    let time = Time::start();
    let (a, b) = (Instance::new(&db, "a", DAY), Instance::new(&db, "b", Duration::ZERO));
    let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
    keeper_a.turn().await.expect("a turn");
    keeper_b.turn().await.expect("a turn");
    time.advance(LENGTH * 9 / 10);
    keeper_a.turn().await.expect("a turn");
    time.advance(LENGTH / 10);
    keeper_b.turn().await.expect("a turn");
    assert_eq!((a.epoch(&time), b.epoch(&time)), (Some(1), None));
    time.advance(LENGTH - Duration::from_millis(1));
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), None);
    time.advance(Duration::from_millis(1));
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), Some(2));
}

async fn a_holder_that_was_only_late_goes_on_under_its_epoch(db: DatabaseConnection) {
    let (time, a) = (Time::start(), Instance::new(&db, "a", Duration::ZERO));
    let mut keeper = a.keeper(&time);
    keeper.turn().await.expect("a turn");
    time.advance(LENGTH * 3);
    assert_eq!(a.fence(&time), None);
    keeper.turn().await.expect("a turn");
    assert_eq!(a.epoch(&time), Some(1));
}

async fn a_released_lease_is_acquired_at_once(db: DatabaseConnection) {
    let time = Time::start();
    let (a, b) = (Instance::new(&db, "a", Duration::ZERO), Instance::new(&db, "b", Duration::ZERO));
    let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
    keeper_a.turn().await.expect("a turn");
    keeper_b.turn().await.expect("a turn");
    let stale = a.fence(&time).expect("nobody holds it");
    a.leases.claim_only(["another".to_owned()]);
    assert_eq!(a.fence(&time), None, "released before the database knows");
    keeper_a.turn().await.expect("a turn");
    check(&db, &stale).await.expect_err("released");
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), Some(2));
    // Claimed again, it is waited for as by any candidate.
    a.leases.claim(NAME);
    keeper_a.turn().await.expect("a turn");
    assert_eq!((a.epoch(&time), b.epoch(&time)), (None, Some(2)));
    assert!(a.leases.shared.fence("another", a.zero).is_some());
}

async fn hundreds_of_leases_change_hands_in_one_turn(db: DatabaseConnection) {
    let time = Time::start();
    let names: Vec<String> = (0..350).map(|n| format!("model-{n}")).collect();
    let (a, b) = (Instance::new(&db, "a", Duration::ZERO), Instance::new(&db, "b", Duration::ZERO));
    for instance in [&a, &b] {
        instance.leases.claim_only(names.iter().cloned());
    }
    let epochs = |instance: &Instance| {
        let now = instance.zero + time.0.get();
        let epoch = |name: &String| instance.leases.shared.fence(name, now).map_or(0, |fence| fence.epoch());
        names.iter().map(epoch).collect::<Vec<_>>()
    };
    let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
    keeper_a.turn().await.expect("a turn");
    assert_eq!(epochs(&a), [1; 350]);
    keeper_b.turn().await.expect("a turn");
    time.advance(LENGTH);
    keeper_b.turn().await.expect("a turn");
    assert_eq!(epochs(&b), [2; 350]);
    b.leases.claim_only([]);
    keeper_b.turn().await.expect("a turn");
    keeper_a.turn().await.expect("a turn");
    assert_eq!(epochs(&a), [3; 350]);
}

async fn an_instance_that_restarts_is_another_holder(db: DatabaseConnection) {
    let time = Time::start();
    let (before, after) = (Instance::new(&db, "a", Duration::ZERO), Instance::new(&db, "a", Duration::ZERO));
    before.keeper(&time).turn().await.expect("a turn");
    after.keeper(&time).turn().await.expect("a turn");
    assert_eq!((before.epoch(&time), after.epoch(&time)), (Some(1), None));
}

/// The holder's process is stopped in the middle of a transaction: the candidate keeps up its other leases, and takes over afterwards.
#[tokio::test]
async fn a_fenced_transaction_delays_a_take_over_and_no_renewal() {
    let server = Postgres::start().await;
    let db = open(server.fresh_database().await).await;
    let time = Time::start();
    let (a, b) = (Instance::new(&db, "a", Duration::ZERO), Instance::new(&db, "b", Duration::ZERO));
    b.leases.claim("another");
    let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
    keeper_a.turn().await.expect("a turn");
    keeper_b.turn().await.expect("a turn");
    let txn = db.begin().await.expect("a transaction");
    a.fence(&time).expect("held").check(&txn).await.expect("held");
    keeper_a.turn().await.expect("a turn");
    keeper_b.turn().await.expect("a turn");
    time.advance(LENGTH);
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), None, "the transaction may still write");
    assert!(b.leases.shared.fence("another", b.zero + time.0.get()).is_some());
    txn.commit().await.expect("it commits");
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), Some(2));
}

/// A transaction that has read before the check sees the database as of that moment, when its fence was still valid.
#[tokio::test]
async fn a_check_in_an_older_snapshot_is_refused_after_a_take_over() {
    let server = Postgres::start().await;
    let db = open(server.fresh_database().await).await;
    let time = Time::start();
    let (a, b) = (Instance::new(&db, "a", Duration::ZERO), Instance::new(&db, "b", Duration::ZERO));
    let (mut keeper_a, mut keeper_b) = (a.keeper(&time), b.keeper(&time));
    let read = "SELECT count(*) FROM outbox";
    keeper_a.turn().await.expect("a turn");
    keeper_b.turn().await.expect("a turn");

    let stale = a.fence(&time).expect("held");
    let txn = transaction::begin(&db).await.expect("a transaction");
    txn.execute_unprepared(read).await.expect("the snapshot is taken");
    time.advance(LENGTH);
    keeper_b.turn().await.expect("a turn");
    assert_eq!(b.epoch(&time), Some(2));
    stale.check(&txn).await.expect_err("taken over");

    let stale = b.fence(&time).expect("held");
    let txn = transaction::begin(&db).await.expect("a transaction");
    txn.execute_unprepared(read).await.expect("the snapshot is taken");
    b.leases.release(NAME);
    keeper_b.turn().await.expect("a turn");
    keeper_a.turn().await.expect("a turn");
    assert_eq!(a.epoch(&time), Some(3));
    stale.check(&txn).await.expect_err("released and taken over");
}

/// Renewals change the row, and must not make fenced transactions conflict.
#[tokio::test]
async fn a_check_in_an_older_snapshot_passes_after_a_renewal() {
    let server = Postgres::start().await;
    let db = open(server.fresh_database().await).await;
    let (time, a) = (Time::start(), Instance::new(&db, "a", Duration::ZERO));
    let mut keeper = a.keeper(&time);
    keeper.turn().await.expect("a turn");
    let txn = transaction::begin(&db).await.expect("a transaction");
    txn.execute_unprepared("SELECT count(*) FROM outbox").await.expect("the snapshot is taken");
    keeper.turn().await.expect("a turn");
    a.fence(&time).expect("held").check(&txn).await.expect("still held");
    txn.commit().await.expect("it commits");
}
