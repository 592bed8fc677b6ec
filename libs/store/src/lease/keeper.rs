//! The loop that acquires and renews what is claimed.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use sea_orm::DbErr;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Holding, Shared,
    row::{self, Candidate, NOBODY},
};
use crate::entity::lease::Model;

/// Longest time between two turns while a claimed lease is held by another.
const LONGEST_OBSERVATION: Duration = Duration::from_secs(1);

/// Acquires and renews for one instance. The clock is an input, so that a test can set it.
#[derive(Debug)]
pub(super) struct Keeper<'a, C> {
    shared: &'a Shared,
    clock: C,
    /// Leases of others, and since when they have been seen unchanged.
    observed: HashMap<String, (Model, Instant)>,
}

impl<'a, C: Fn() -> Instant> Keeper<'a, C> {
    pub(super) fn new(shared: &'a Shared, clock: C) -> Self {
        Self { shared, clock, observed: HashMap::new() }
    }

    /// Turns until `stop`; a turn that has begun is finished, so that no statement of it runs after the release.
    pub(super) async fn run(&mut self, stop: &CancellationToken) {
        let mut claims = self.shared.claims.subscribe();
        while !stop.is_cancelled() {
            claims.mark_unchanged();
            if let Err(error) = self.turn().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew the leases, retrying");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = claims.changed() => {}
                () = sleep(self.pause()) => {}
            }
        }
    }

    /// Releases, renews, observes and acquires once.
    pub(super) async fn turn(&mut self) -> Result<(), DbErr> {
        let claims = self.shared.claims.borrow().clone();
        row::release_unclaimed(&self.shared.db, &self.shared.holder, &claims).await?;
        let requested = (self.clock)();
        row::renew(&self.shared.db, &self.shared.holder).await?;
        let rows = row::read(&self.shared.db, claims.iter().map(String::as_str)).await?;
        let candidates = self.candidates(&claims, &rows);
        self.note(rows, requested);
        self.observed.retain(|name, _| claims.contains(name));
        self.acquire(&candidates).await
    }

    /// Releases what is claimed no longer.
    pub(super) async fn release(&self) -> Result<(), DbErr> {
        let claims = self.shared.claims.borrow().clone();
        row::release_unclaimed(&self.shared.db, &self.shared.holder, &claims).await
    }

    async fn acquire(&mut self, candidates: &[Candidate]) -> Result<(), DbErr> {
        if candidates.is_empty() {
            return Ok(());
        }
        let requested = (self.clock)();
        let rows = row::acquire(&self.shared.db, &self.shared.holder, candidates).await?;
        self.note(rows, requested);
        Ok(())
    }

    /// What may be acquired: claims without a row, without a holder, or whose holder has been silent for the lease's length.
    fn candidates(&self, claims: &BTreeSet<String>, rows: &[Model]) -> Vec<Candidate> {
        let now = (self.clock)();
        let is_silent = |row: &Model| {
            let observed = self.observed.get(&row.name).filter(|(observed, _)| observed == row);
            observed.is_some_and(|(_, since)| now.saturating_duration_since(*since) >= self.shared.length)
        };
        let is_vacant = |row: &&Model| *row.holder != *self.shared.holder && (row.holder == NOBODY || is_silent(row));
        let present: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let absent = claims.iter().filter(|name| !present.contains(name.as_str()));
        let vacant = rows.iter().filter(is_vacant);
        absent.cloned().map(Candidate::Absent).chain(vacant.cloned().map(Candidate::Vacant)).collect()
    }

    /// Records rows that were read after a statement, sent at `requested`, renewed or acquired this instance's leases. No other instance has
    /// seen these rows before `requested`, so none takes them over within the lease's length from then.
    fn note(&mut self, rows: Vec<Model>, requested: Instant) {
        let now = (self.clock)();
        let until = requested + self.shared.length * 9 / 10;
        let observed = &mut self.observed;
        let holder = &*self.shared.holder;
        self.shared.change(|holdings| {
            for row in rows {
                if row.holder == holder {
                    observed.remove(&row.name);
                    holdings.insert(row.name, Holding { epoch: row.epoch, until });
                } else {
                    holdings.remove(&row.name);
                    match observed.get_mut(&row.name) {
                        Some((known, _)) if *known == row => {}
                        _ => drop(observed.insert(row.name.clone(), (row, now))),
                    }
                }
            }
        });
    }

    /// Short while somebody else holds what is claimed, so that little time is lost when that holder falls silent.
    fn pause(&self) -> Duration {
        let all_held = self.observed.is_empty();
        if all_held { self.shared.length / 5 } else { (self.shared.length / 10).min(LONGEST_OBSERVATION) }
    }
}
