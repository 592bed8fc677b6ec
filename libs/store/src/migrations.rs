//! The tables that every service's database has. A service's migrator lists them before its own:
//!
//! ```ignore
//! fn migrations() -> Vec<Box<dyn MigrationTrait>> {
//!     let mut all = rekindle_store::migrations::shared();
//!     all.push(Box::new(m20261121_models::Migration));
//!     all
//! }
//! ```

use sea_orm_migration::MigrationTrait;

mod m20260101_000001_effects_once;
mod m20261128_000001_leases;
mod m20261129_000001_event_positions;
mod m20261129_000002_audit;

/// The migrations of the shared tables, oldest first.
pub fn shared() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(m20260101_000001_effects_once::Migration),
        Box::new(m20261128_000001_leases::Migration),
        Box::new(m20261129_000001_event_positions::Migration),
        Box::new(m20261129_000002_audit::Migration),
    ]
}
