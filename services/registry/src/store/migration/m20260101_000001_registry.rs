//! Datasets, runs, models and aliases.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, double, integer, json_binary, string, string_null, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::index;

/// Everything of the first release.
pub(super) struct Registry;

impl MigrationName for Registry {
    fn name(&self) -> &'static str {
        "m20260101_000001_registry"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Registry {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            numbered("datasets"),
            dataset_versions(),
            runs(),
            run_metrics(),
            numbered("models"),
            model_versions(),
            aliases(),
            alias_moves(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

/// A name whose versions are numbered.
fn numbered(table: &'static str) -> TableCreateStatement {
    Table::create()
        .table(table)
        .col(string("name").primary_key())
        .col(integer("latest"))
        .col(timestamp_with_time_zone("created_at"))
        .to_owned()
}

fn dataset_versions() -> TableCreateStatement {
    Table::create()
        .table("dataset_versions")
        .col(string("name"))
        .col(integer("version"))
        .col(string("content_digest"))
        .col(string("blob_digest"))
        .col(big_integer("rows"))
        .col(big_integer("bytes"))
        .col(json_binary("columns"))
        .col(string_null("time_column"))
        .col(timestamp_with_time_zone_null("time_min"))
        .col(timestamp_with_time_zone_null("time_max"))
        .col(json_binary("parents"))
        .col(text("description"))
        .col(json_binary("profile"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(Index::create().col("name").col("version"))
        .foreign_key(ForeignKey::create().from("dataset_versions", "name").to("datasets", "name"))
        .to_owned()
}

fn runs() -> TableCreateStatement {
    Table::create()
        .table("runs")
        .col(uuid("id").primary_key())
        .col(string("experiment"))
        .col(string("status"))
        .col(json_binary("params"))
        .col(json_binary("tags"))
        .col(string("code_revision"))
        .col(json_binary("dataset_digests"))
        .col(big_integer("seed"))
        .col(json_binary("outputs"))
        .col(text("error"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("started_at"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .col(timestamp_with_time_zone_null("lease_until"))
        .col(big_integer("revision"))
        .to_owned()
}

fn run_metrics() -> TableCreateStatement {
    Table::create()
        .table("run_metrics")
        .col(uuid("run_id"))
        .col(string("name"))
        .col(big_integer("step"))
        .col(double("value"))
        .col(timestamp_with_time_zone("time"))
        .primary_key(Index::create().col("run_id").col("name").col("step"))
        .foreign_key(ForeignKey::create().from("run_metrics", "run_id").to("runs", "id"))
        .to_owned()
}

fn model_versions() -> TableCreateStatement {
    Table::create()
        .table("model_versions")
        .col(string("model"))
        .col(integer("version"))
        .col(string("status"))
        .col(text("status_reason"))
        .col(string("bundle_digest"))
        .col(uuid_null("run_id"))
        .col(json_binary("dataset_digests"))
        .col(text("description"))
        .col(json_binary("metrics"))
        .col(string("approval"))
        .col(string("reviewed_by"))
        .col(text("review_reason"))
        .col(timestamp_with_time_zone_null("reviewed_at"))
        .col(timestamp_with_time_zone("created_at"))
        .col(big_integer("revision"))
        .primary_key(Index::create().col("model").col("version"))
        .foreign_key(ForeignKey::create().from("model_versions", "model").to("models", "name"))
        .to_owned()
}

fn aliases() -> TableCreateStatement {
    pointer("aliases").primary_key(Index::create().col("model").col("alias")).to_owned()
}

fn alias_moves() -> TableCreateStatement {
    pointer("alias_moves").primary_key(Index::create().col("model").col("alias").col("revision")).to_owned()
}

fn pointer(table: &'static str) -> TableCreateStatement {
    Table::create()
        .table(table)
        .col(string("model"))
        .col(string("alias"))
        .col(big_integer("revision"))
        .col(integer("version"))
        .col(string("bundle_digest"))
        .col(string("moved_by"))
        .col(text("reason"))
        .col(timestamp_with_time_zone("moved_at"))
        .foreign_key(ForeignKey::create().from(table, ("model", "version")).to("model_versions", ("model", "version")))
        .to_owned()
}

fn indexes() -> [IndexCreateStatement; 6] {
    [
        index("dataset_versions_by_content", "dataset_versions", &["content_digest"]),
        index("dataset_versions_by_blob", "dataset_versions", &["blob_digest"]),
        index("runs_by_experiment", "runs", &["experiment", "created_at"]),
        index("runs_by_age", "runs", &["created_at"]),
        index("runs_by_lease", "runs", &["lease_until"]),
        index("model_versions_by_bundle", "model_versions", &["bundle_digest"]),
    ]
}
