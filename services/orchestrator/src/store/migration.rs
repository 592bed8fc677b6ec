//! The tables, in the words that SQLite and PostgreSQL share.

mod m20261130_000001_triggers;

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, boolean, integer, json_binary, string, string_null, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid,
    },
};

/// What every service has (outbox, inbox, idempotency keys) and then what is the orchestrator's own.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(Orchestrator));
        migrations.push(Box::new(m20261130_000001_triggers::Triggers));
        migrations
    }
}

struct Orchestrator;

impl MigrationName for Orchestrator {
    fn name(&self) -> &'static str {
        "m20260101_000002_orchestrator"
    }
}

const TABLES: [&str; 5] = ["policies", "workflows", "workflow_steps", "deployments", "deployment_history"];

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Orchestrator {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [policies(), workflows(), workflow_steps(), deployments(), deployment_history()] {
            manager.create_table(table).await?;
        }
        let by_model = Index::create().name("workflows_by_model").table("workflows").col("model").col("id").to_owned();
        manager.create_index(by_model).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.into_iter().rev() {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn policies() -> TableCreateStatement {
    Table::create()
        .table("policies")
        .col(string("model").primary_key())
        .col(big_integer("revision"))
        .col(json_binary("policy"))
        .col(boolean("watch_pushed"))
        .to_owned()
}

fn workflows() -> TableCreateStatement {
    Table::create()
        .table("workflows")
        .col(uuid("id").primary_key())
        .col(string("model"))
        .col(string_null("active_model").unique_key())
        .col(string("state"))
        .col(big_integer("epoch"))
        .col(timestamp_with_time_zone_null("cooldown_from"))
        .col(json_binary("record"))
        .to_owned()
}

fn workflow_steps() -> TableCreateStatement {
    Table::create()
        .table("workflow_steps")
        .col(uuid("workflow_id"))
        .col(big_integer("epoch"))
        .col(string("state"))
        .col(timestamp_with_time_zone("entered_at"))
        .col(text("reason"))
        .primary_key(Index::create().col("workflow_id").col("epoch"))
        .foreign_key(ForeignKey::create().from("workflow_steps", "workflow_id").to("workflows", "id"))
        .to_owned()
}

fn deployments() -> TableCreateStatement {
    Table::create()
        .table("deployments")
        .col(string("model").primary_key())
        .col(big_integer("revision"))
        .col(json_binary("record"))
        .to_owned()
}

fn deployment_history() -> TableCreateStatement {
    Table::create()
        .table("deployment_history")
        .col(string("model"))
        .col(big_integer("revision"))
        .col(integer("version"))
        .col(string("bundle_digest"))
        .col(boolean("withdrawn"))
        .col(timestamp_with_time_zone("stable_at"))
        .primary_key(Index::create().col("model").col("revision"))
        .foreign_key(ForeignKey::create().from("deployment_history", "model").to("deployments", "model"))
        .to_owned()
}
