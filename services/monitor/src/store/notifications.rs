//! Notifications: messages to webhooks, with what became of them.

use chrono::{DateTime, Utc};
use rekindle_domain::{AlertId, alert::Notification};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, sea_query::Expr,
};

use super::{
    entities::{
        alert,
        notification::{ActiveModel, Column, Entity, Model},
    },
    unreadable,
};

/// A notification that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The notification.
    pub(crate) notification: Notification,
    /// Its alert.
    pub(crate) alert: AlertId,
    /// What is sent.
    pub(crate) body: String,
}

fn read(row: Model) -> Result<Pending, DbErr> {
    let notification = Notification {
        id: row.id,
        receiver: row.receiver,
        state: row.state.parse().map_err(|error| unreadable("notifications.state", error))?,
        created_at: row.created_at,
        attempts: u32::try_from(row.attempts).unwrap_or_default(),
        delivered_at: row.delivered_at,
        failed_at: row.failed_at,
        next_attempt_at: row.next_attempt_at,
        error: row.error,
    };
    Ok(Pending { notification, alert: AlertId::new(row.alert_id), body: row.body })
}

/// Adds a notification.
pub(crate) async fn insert(txn: &impl ConnectionTrait, pending: &Pending) -> Result<(), DbErr> {
    let Pending { notification, alert, body } = pending;
    let row = ActiveModel {
        id: Set(notification.id),
        alert_id: Set(alert.uuid()),
        receiver: Set(notification.receiver.clone()),
        state: Set(notification.state.name().to_owned()),
        body: Set(body.clone()),
        created_at: Set(notification.created_at),
        attempts: Set(0),
        next_attempt_at: Set(notification.next_attempt_at),
        delivered_at: Set(None),
        failed_at: Set(None),
        error: Set(String::new()),
    };
    Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// Records what became of an attempt.
pub(crate) async fn update(txn: &impl ConnectionTrait, notification: &Notification) -> Result<(), DbErr> {
    let attempts = i32::try_from(notification.attempts).unwrap_or(i32::MAX);
    Entity::update_many()
        .filter(Column::Id.eq(notification.id))
        .col_expr(Column::Attempts, Expr::value(attempts))
        .col_expr(Column::NextAttemptAt, Expr::value(notification.next_attempt_at))
        .col_expr(Column::DeliveredAt, Expr::value(notification.delivered_at))
        .col_expr(Column::FailedAt, Expr::value(notification.failed_at))
        .col_expr(Column::Error, Expr::value(notification.error.clone()))
        .exec(txn)
        .await?;
    Ok(())
}

/// The notifications to a receiver that are to be sent, now or later, the oldest first.
pub(crate) async fn pending(db: &impl ConnectionTrait, receiver: &str, limit: u64) -> Result<Vec<Pending>, DbErr> {
    let query = Entity::find().filter(Column::Receiver.eq(receiver)).filter(Column::NextAttemptAt.is_not_null());
    let query = query.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(read).collect()
}

/// The notifications of an alert, the oldest first.
pub(crate) async fn of_alert(db: &impl ConnectionTrait, alert: AlertId) -> Result<Vec<Notification>, DbErr> {
    let query = Entity::find().filter(Column::AlertId.eq(alert.uuid())).order_by_asc(Column::CreatedAt);
    let rows = query.order_by_asc(Column::Id).all(db).await?;
    rows.into_iter().map(|row| read(row).map(|pending| pending.notification)).collect()
}

/// The receivers that were notified of the opening of an alert, or will be.
pub(crate) async fn receivers_of(db: &impl ConnectionTrait, alert: AlertId) -> Result<Vec<String>, DbErr> {
    let query = Entity::find().filter(Column::AlertId.eq(alert.uuid())).select_only();
    query.column(Column::Receiver).distinct().into_tuple().all(db).await
}

/// Gives up the notifications of receivers that are no longer configured; returns how many.
pub(crate) async fn give_up_others(
    txn: &impl ConnectionTrait,
    receivers: &[&str],
    at: DateTime<Utc>,
) -> Result<u64, DbErr> {
    let updated = Entity::update_many()
        .filter(Column::NextAttemptAt.is_not_null())
        .filter(Column::Receiver.is_not_in(receivers.iter().copied()))
        .col_expr(Column::NextAttemptAt, Expr::value(None::<DateTime<Utc>>))
        .col_expr(Column::FailedAt, Expr::value(Some(at)))
        .col_expr(Column::Error, Expr::value("the receiver is no longer configured"))
        .exec(txn)
        .await?;
    Ok(updated.rows_affected)
}

/// Deletes the notifications of resolved alerts that were delivered or given up before a time; returns how many. Those of an open alert tell
/// who is to be notified of its end.
pub(crate) async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let ended = Condition::any().add(Column::DeliveredAt.lt(before)).add(Column::FailedAt.lt(before));
    let resolved = alert::Entity::find()
        .filter(alert::Column::IsOpen.eq(false))
        .filter(alert::Column::IsPending.eq(false))
        .select_only()
        .column(alert::Column::Id)
        .into_query();
    let query = Entity::delete_many().filter(ended).filter(Column::AlertId.in_subquery(resolved));
    Ok(query.exec(db).await?.rows_affected)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rekindle_domain::alert::{AlertState, Note};
    use uuid::Uuid;

    use super::*;
    use crate::{alert::tests::open_alert, ownership::tests::database, store::alerts};

    #[tokio::test]
    async fn the_notification_of_an_opening_is_kept_until_that_of_the_end_is_created() {
        let db = database().await;
        let (then, alert) = (DateTime::UNIX_EPOCH, open_alert());
        alerts::insert(&db, &alert, 0).await.expect("inserts");
        let notification = Notification {
            id: Uuid::from_u128(1),
            receiver: "ops".to_owned(),
            state: AlertState::Open,
            created_at: then,
            attempts: 0,
            delivered_at: None,
            failed_at: None,
            next_attempt_at: Some(then),
            error: String::new(),
        };
        let pending = Pending { notification, alert: alert.id, body: String::new() };
        insert(&db, &pending).await.expect("inserts");
        let delivered = Notification { delivered_at: Some(then), next_attempt_at: None, ..pending.notification };
        update(&db, &delivered).await.expect("updates");
        assert!(alerts::set_notified(&db, &alert).await.expect("updates"));
        let later = then + TimeDelta::days(30);
        assert_eq!(forget(&db, later).await.expect("deletes"), 0, "the receiver is to be notified of the end");
        assert_eq!(receivers_of(&db, alert.id).await.expect("readable"), ["ops"]);

        let resolved = alert.resolved(Note { by: "ann".to_owned(), why: String::new(), at: later });
        alerts::update(&db, &resolved).await.expect("updates");
        assert_eq!(forget(&db, later).await.expect("deletes"), 0, "nobody is notified of the end yet");
        assert!(alerts::set_notified(&db, &resolved).await.expect("updates"));
        assert_eq!(forget(&db, later).await.expect("deletes"), 1);
    }
}
