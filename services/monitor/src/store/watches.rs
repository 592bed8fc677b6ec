//! Settings per model, moved by compare-and-set.

use rekindle_domain::ModelName;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use super::{counted, entities::watch, stored, unreadable};
use crate::watch::{Settings, Watch};

/// The settings of a model; the defaults, at revision 0, where none were set.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Watch, DbErr> {
    let Some(row) = watch::Entity::find_by_id(model.as_str()).one(db).await? else {
        return Ok(Watch { model: model.clone(), settings: Settings::default(), revision: 0 });
    };
    let settings = serde_json::from_value(row.settings).map_err(|error| unreadable("watches.settings", error))?;
    Ok(Watch { model: model.clone(), settings, revision: counted(row.revision) })
}

/// Puts `settings` in place of revision `expected` (0: there are none); `false` where the revision is another.
pub(crate) async fn set(
    db: &impl ConnectionTrait,
    model: &ModelName,
    settings: &Settings,
    expected: u64,
) -> Result<bool, DbErr> {
    let json = serde_json::to_value(settings).map_err(|error| unreadable("watches.settings", error))?;
    if expected == 0 {
        let row = watch::ActiveModel { model: Set(model.to_string()), settings: Set(json), revision: Set(1) };
        let inserted = watch::Entity::insert(row)
            .on_conflict(OnConflict::column(watch::Column::Model).do_nothing().to_owned())
            .exec_without_returning(db)
            .await?;
        return Ok(inserted == 1);
    }
    let moved = watch::Entity::update_many()
        .filter(watch::Column::Model.eq(model.as_str()))
        .filter(watch::Column::Revision.eq(stored(expected)))
        .col_expr(watch::Column::Settings, Expr::value(json))
        .col_expr(watch::Column::Revision, Expr::value(stored(expected + 1)))
        .exec(db)
        .await?;
    Ok(moved.rows_affected == 1)
}
