//! The tables, the same on SQLite and PostgreSQL.

use sea_orm_migration::prelude::*;

mod m20261121_000100_monitor;
mod m20261121_000200_lives;
mod m20261128_000300_chunks;
mod m20261128_000400_event_clock;
mod m20261128_000500_reset;
mod m20261128_000600_join_keys;
mod m20261128_000700_deletions;
mod m20261128_000800_unsampled;
mod m20261129_000900_alerts;
mod m20261129_001000_estimates;

/// The shared tables and the monitor's own.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = rekindle_store::migrations::shared();
        all.push(Box::new(m20261121_000100_monitor::Migration));
        all.push(Box::new(m20261121_000200_lives::Migration));
        all.push(Box::new(m20261128_000300_chunks::Migration));
        all.push(Box::new(m20261128_000400_event_clock::Migration));
        all.push(Box::new(m20261128_000500_reset::Migration));
        all.push(Box::new(m20261128_000600_join_keys::Migration));
        all.push(Box::new(m20261128_000700_deletions::Migration));
        all.push(Box::new(m20261128_000800_unsampled::Migration));
        all.push(Box::new(m20261129_000900_alerts::Migration));
        all.push(Box::new(m20261129_001000_estimates::Migration));
        all
    }
}

fn name(text: &'static str) -> Alias {
    Alias::new(text)
}

fn index(table: &'static str, named: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(named).table(name(table));
    for &column in columns {
        index.col(name(column));
    }
    index
}

#[cfg(test)]
mod tests;
