//! Models as records of their own, tags of models and versions, reviews that are kept, aliases that are deleted and protected, models that runs
//! have logged, and what runs have read and written.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, boolean, double_null, integer, json_binary, string, text,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::index;

pub(super) struct Models;

impl MigrationName for Models {
    fn name(&self) -> &'static str {
        "m20261129_000003_models"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Models {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement, and one that is not null needs a default.
        let no_texts = || Expr::cust("'{}'");
        for (table, mut column) in [
            ("models", string("title").default("").take()),
            ("models", text("description").default("").take()),
            ("models", json_binary("tags").default(no_texts()).take()),
            ("models", timestamp_with_time_zone_null("updated_at")),
            ("models", timestamp_with_time_zone_null("deleted_at")),
            ("model_versions", json_binary("tags").default(no_texts()).take()),
            ("model_versions", string("author").default("").take()),
            ("model_versions", json_binary("evidence").default(no_texts()).take()),
            ("model_versions", timestamp_with_time_zone_null("updated_at")),
            ("model_versions", timestamp_with_time_zone_null("deleted_at")),
            ("model_versions", text("source").default("").take()),
            ("model_versions", text("run_link").default("").take()),
            ("model_versions", string("stage").default("").take()),
            ("model_versions", uuid_null("logged_model_id")),
            ("aliases", boolean("deleted").default(false).take()),
            ("alias_moves", boolean("deleted").default(false).take()),
        ] {
            manager.alter_table(Table::alter().table(table).add_column(&mut column).take()).await?;
        }
        let titled = Query::update().table("models").value("title", Expr::col("name")).take();
        manager.execute(titled).await?;
        for table in [reviews(), alias_protections(), artifacts(), logged_models(), logged_model_metrics(), run_links()]
        {
            manager.create_table(table).await?;
        }
        manager.create_index(index("models_by_title", "models", &["title"]).unique().take()).await?;
        manager.create_index(index("logged_models_by_experiment", "logged_models", &["experiment_id", "id"])).await?;
        manager.get_connection().execute_unprepared(FORMER_REVIEWS).await?;
        manager.get_connection().execute_unprepared(FORMER_ARTIFACTS).await?;
        manager.drop_table(Table::drop().table("run_artifacts").take()).await
    }
}

/// The reviews of an earlier release, which kept the last one.
const FORMER_REVIEWS: &str = "\
    INSERT INTO model_reviews (model, version, number, approval, reviewed_by, reason, evidence, reviewed_at) \
    SELECT model, version, revision, approval, reviewed_by, review_reason, '{}', reviewed_at FROM model_versions \
    WHERE reviewed_at IS NOT NULL";

/// The files of runs, which had a table of their own.
const FORMER_ARTIFACTS: &str = "\
    INSERT INTO artifacts (owner, path, digest, bytes, written_at) \
    SELECT run_id, path, digest, bytes, written_at FROM run_artifacts";

fn reviews() -> TableCreateStatement {
    Table::create()
        .table("model_reviews")
        .col(string("model"))
        .col(integer("version"))
        .col(big_integer("number"))
        .col(string("approval"))
        .col(string("reviewed_by"))
        .col(text("reason"))
        .col(json_binary("evidence"))
        .col(timestamp_with_time_zone("reviewed_at"))
        .primary_key(Index::create().col("model").col("version").col("number"))
        .to_owned()
}

fn alias_protections() -> TableCreateStatement {
    Table::create()
        .table("alias_protections")
        .col(string("model"))
        .col(string("alias"))
        .col(integer("approvals"))
        .col(boolean("except_author"))
        .col(string("set_by"))
        .col(text("reason"))
        .col(timestamp_with_time_zone("set_at"))
        .primary_key(Index::create().col("model").col("alias"))
        .to_owned()
}

fn artifacts() -> TableCreateStatement {
    Table::create()
        .table("artifacts")
        .col(uuid("owner"))
        .col(string("path"))
        .col(string("digest"))
        .col(big_integer("bytes"))
        .col(timestamp_with_time_zone("written_at"))
        .primary_key(Index::create().col("owner").col("path"))
        .to_owned()
}

fn logged_models() -> TableCreateStatement {
    Table::create()
        .table("logged_models")
        .col(uuid("id").primary_key())
        .col(big_integer("experiment_id"))
        .col(string("name"))
        .col(string("model_type"))
        .col(uuid_null("run_id"))
        .col(string("status"))
        .col(text("status_message"))
        .col(json_binary("params"))
        .col(json_binary("tags"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .col(timestamp_with_time_zone_null("deleted_at"))
        .foreign_key(ForeignKey::create().from("logged_models", "experiment_id").to("experiments", "id"))
        .to_owned()
}

/// The last value of each metric of a model, by run and dataset.
fn logged_model_metrics() -> TableCreateStatement {
    Table::create()
        .table("logged_model_metrics")
        .col(uuid("model_id"))
        .col(uuid("run_id"))
        .col(string("name"))
        .col(string("dataset_name"))
        .col(string("dataset_digest"))
        .col(double_null("value"))
        .col(big_integer("step"))
        .col(big_integer_null("time_ms"))
        .primary_key(
            Index::create().col("model_id").col("run_id").col("name").col("dataset_name").col("dataset_digest"),
        )
        .to_owned()
}

/// Datasets that runs have read, and models that they have read and written.
fn run_links() -> TableCreateStatement {
    Table::create()
        .table("run_links")
        .col(uuid("run_id"))
        .col(string("kind"))
        .col(string("key"))
        .col(json_binary("data"))
        .col(timestamp_with_time_zone("written_at"))
        .primary_key(Index::create().col("run_id").col("kind").col("key"))
        .to_owned()
}
