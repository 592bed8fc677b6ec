//! Experiments as records of their own, runs that are deleted, and files of runs.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_pk_auto, json_binary, string, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
    },
};

/// Experiments as records of their own, runs that are deleted, and files of runs.
pub(super) struct Experiments;

impl MigrationName for Experiments {
    fn name(&self) -> &'static str {
        "m20261129_000002_experiments"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Experiments {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut deleted_at = timestamp_with_time_zone_null("deleted_at");
        manager.alter_table(Table::alter().table("runs").add_column(&mut deleted_at).take()).await?;
        manager.create_table(experiments()).await?;
        manager.create_table(run_artifacts()).await?;
        // MLflow's clients take it that there is an experiment with this number and this title.
        let default = Query::insert()
            .into_table("experiments")
            .columns(["id", "name", "title", "tags", "created_at", "updated_at"])
            .values_panic([
                0.into(),
                "default".into(),
                "Default".into(),
                serde_json::json!({}).into(),
                Expr::current_timestamp(),
                Expr::current_timestamp(),
            ])
            .take();
        manager.execute(default).await?;
        manager.get_connection().execute_unprepared(EXPERIMENTS_OF_RUNS).await?;
        Ok(())
    }
}

/// The experiments of earlier runs, the oldest first.
const EXPERIMENTS_OF_RUNS: &str = "\
    INSERT INTO experiments (name, title, tags, created_at, updated_at) \
    SELECT experiment, experiment, '{}', MIN(created_at), MIN(created_at) FROM runs \
    WHERE experiment <> 'default' GROUP BY experiment ORDER BY MIN(created_at)";

fn experiments() -> TableCreateStatement {
    Table::create()
        .table("experiments")
        .col(big_pk_auto("id"))
        .col(string("name").unique_key())
        .col(string("title").unique_key())
        .col(json_binary("tags"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .col(timestamp_with_time_zone_null("deleted_at"))
        .to_owned()
}

fn run_artifacts() -> TableCreateStatement {
    Table::create()
        .table("run_artifacts")
        .col(uuid("run_id"))
        .col(string("path"))
        .col(string("digest"))
        .col(big_integer("bytes"))
        .col(timestamp_with_time_zone("written_at"))
        .primary_key(Index::create().col("run_id").col("path"))
        .foreign_key(ForeignKey::create().from("run_artifacts", "run_id").to("runs", "id"))
        .to_owned()
}
