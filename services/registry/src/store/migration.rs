//! The tables, in the words that SQLite and PostgreSQL share. One file per migration: a later one changes what earlier ones have made.

mod m20260101_000001_registry;
mod m20261129_000001_run_search;
mod m20261129_000002_experiments;
mod m20261129_000003_models;
mod m20261129_000004_blob_references;
mod m20261129_000005_dataset_schemas;
mod m20261130_000001_run_progress;

use sea_orm_migration::prelude::*;

/// What every service has (outbox, inbox, idempotency keys) and then what is the registry's own.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(m20260101_000001_registry::Registry));
        migrations.push(Box::new(m20261129_000001_run_search::RunSearch));
        migrations.push(Box::new(m20261129_000002_experiments::Experiments));
        migrations.push(Box::new(m20261129_000003_models::Models));
        migrations.push(Box::new(m20261129_000004_blob_references::BlobReferences));
        migrations.push(Box::new(m20261129_000005_dataset_schemas::DatasetSchemas));
        migrations.push(Box::new(m20261130_000001_run_progress::RunProgress));
        migrations
    }
}

fn index(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(table).to_owned();
    for &column in columns {
        index.col(column);
    }
    index
}

#[cfg(test)]
mod tests;
