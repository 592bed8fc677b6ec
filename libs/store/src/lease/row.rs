//! The statements on the table of leases.
//!
//! The table has a unique index on name and epoch. It makes the epoch a key column for PostgreSQL's row locks: a fenced transaction locks the
//! row `FOR KEY SHARE`, which shuts out a change of the epoch (a take-over), but neither renewals nor other fenced transactions. On SQLite a
//! writing transaction is alone from its beginning.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter,
    QuerySelect, QueryTrait,
    sea_query::{Expr, LockBehavior, LockType, OnConflict},
};

use super::Fence;
use crate::{
    entity::lease::{ActiveModel, Column, Entity, Model},
    transaction::write,
};

/// Names in one statement: well below the databases' limits of parameters and of the depth of an expression.
const CHUNK: usize = 100;

/// The holder of a lease that is free.
pub(super) const NOBODY: &str = "";

/// What is known of a lease that may be acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Candidate {
    /// It has no row yet.
    Absent(String),
    /// It is free, or its holder was silent: this is the observation to replace.
    Vacant(Model),
}

impl Candidate {
    fn name(&self) -> &str {
        match self {
            Self::Absent(name) => name,
            Self::Vacant(row) => &row.name,
        }
    }
}

/// Whether the fence's epoch lasts; locks the row against take-overs until the transaction ends.
pub(super) async fn is_held(txn: &DatabaseTransaction, fence: &Fence) -> Result<bool, DbErr> {
    let row = Entity::find_by_id(fence.name.clone())
        .filter(Column::Holder.eq(&*fence.holder))
        .filter(Column::Epoch.eq(fence.epoch))
        .lock(LockType::KeyShare)
        .one(txn)
        .await?;
    Ok(row.is_some())
}

/// Releases what `holder` holds beside the claims.
pub(super) async fn release_unclaimed(
    db: &DatabaseConnection,
    holder: &str,
    claims: &BTreeSet<String>,
) -> Result<(), DbErr> {
    let held: Vec<String> =
        Entity::find().filter(Column::Holder.eq(holder)).all(db).await?.into_iter().map(|row| row.name).collect();
    let unclaimed: Vec<&String> = held.iter().filter(|name| !claims.contains(*name)).collect();
    for names in unclaimed.chunks(CHUNK) {
        let release = Entity::update_many()
            .col_expr(Column::Holder, Expr::value(NOBODY))
            .filter(Column::Holder.eq(holder))
            .filter(Column::Name.is_in(names.iter().map(|name| name.as_str())));
        write(db, release.into_query()).await?;
    }
    Ok(())
}

/// Renews everything that `holder` holds.
pub(super) async fn renew(db: &DatabaseConnection, holder: &str) -> Result<(), DbErr> {
    let renew = Entity::update_many()
        .col_expr(Column::Renewals, Expr::col(Column::Renewals).add(1))
        .filter(Column::Holder.eq(holder));
    write(db, renew.into_query()).await
}

/// The rows of these leases. A lease that was never held has no row.
pub(super) async fn read(db: &DatabaseConnection, names: impl IntoIterator<Item = &str>) -> Result<Vec<Model>, DbErr> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut rows = Vec::with_capacity(names.len());
    for names in names.chunks(CHUNK) {
        rows.extend(Entity::find().filter(Column::Name.is_in(names.iter().copied())).all(db).await?);
    }
    Ok(rows)
}

/// Acquires the candidates for `holder`, except those that changed meanwhile, and returns their rows as they are then.
pub(super) async fn acquire(
    db: &DatabaseConnection,
    holder: &str,
    candidates: &[Candidate],
) -> Result<Vec<Model>, DbErr> {
    for candidates in candidates.chunks(CHUNK) {
        let (absent, vacant): (Vec<_>, Vec<_>) =
            candidates.iter().partition(|candidate| matches!(candidate, Candidate::Absent(_)));
        if !absent.is_empty() {
            insert(db, holder, absent.into_iter().map(Candidate::name)).await?;
        }
        let observed = vacant.into_iter().filter_map(|candidate| match candidate {
            Candidate::Absent(_) => None,
            Candidate::Vacant(row) => Some(unchanged(row)),
        });
        take_over(db, holder, observed.fold(Condition::any(), Condition::add)).await?;
    }
    read(db, candidates.iter().map(Candidate::name)).await
}

async fn insert(db: &DatabaseConnection, holder: &str, names: impl IntoIterator<Item = &str>) -> Result<(), DbErr> {
    let row = |name: &str| ActiveModel {
        name: Set(name.to_owned()),
        holder: Set(holder.to_owned()),
        epoch: Set(1),
        renewals: Set(0),
    };
    let unless_present = OnConflict::column(Column::Name).do_nothing().to_owned();
    write(db, Entity::insert_many(names.into_iter().map(row)).on_conflict(unless_present).into_query()).await
}

/// Rows that a fenced transaction has locked are passed over, not waited for: the process behind it may be stopped, and the other leases must be
/// renewed in time.
async fn take_over(db: &DatabaseConnection, holder: &str, observed: Condition) -> Result<(), DbErr> {
    if observed.is_empty() {
        return Ok(());
    }
    let unlocked = Entity::find()
        .select_only()
        .column(Column::Name)
        .filter(observed)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_query();
    let take_over = Entity::update_many()
        .col_expr(Column::Holder, Expr::value(holder))
        .col_expr(Column::Epoch, Expr::col(Column::Epoch).add(1))
        .col_expr(Column::Renewals, Expr::value(0_i64))
        .filter(Column::Name.in_subquery(unlocked));
    write(db, take_over.into_query()).await
}

fn unchanged(row: &Model) -> Condition {
    Condition::all()
        .add(Column::Name.eq(row.name.as_str()))
        .add(Column::Holder.eq(row.holder.as_str()))
        .add(Column::Epoch.eq(row.epoch))
        .add(Column::Renewals.eq(row.renewals))
}
