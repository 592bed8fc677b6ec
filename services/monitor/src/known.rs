//! Which models there are. Names that only somebody's message contains cause no work, no log and no metric.

use rekindle_bus::Bus;
use rekindle_domain::ModelName;
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    store::{logs, watches},
};

/// Whether a model is known: something of it was captured, its monitoring is set, or it is deployed.
pub(crate) async fn is_known(db: &DatabaseConnection, bus: &Bus, model: &ModelName) -> Result<bool, Error> {
    if logs::exists(db, model).await? || watches::get(db, model).await?.revision > 0 {
        return Ok(true);
    }
    Ok(bus.routes().await?.get(model.as_str()).await?.is_some())
}
