//! Which blobs a bundle has, which blobs are about to be deleted, and the lock of those who delete blobs against those who refer to them.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, integer, string, timestamp_with_time_zone, uuid},
};

use super::index;

pub(super) struct BlobReferences;

impl MigrationName for BlobReferences {
    fn name(&self) -> &'static str {
        "m20261129_000004_blob_references"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for BlobReferences {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let blobs = Table::create()
            .table("bundle_blobs")
            .col(string("bundle_digest"))
            .col(string("blob_digest"))
            .primary_key(Index::create().col("bundle_digest").col("blob_digest"))
            .to_owned();
        manager.create_table(blobs).await?;
        let condemned = Table::create()
            .table("condemned_blobs")
            .col(string("blob_digest").primary_key())
            .col(uuid("collection"))
            .col(timestamp_with_time_zone("since"))
            .to_owned();
        manager.create_table(condemned).await?;
        // The number of deletions so far.
        let deletions = big_integer("deletions");
        let lock = Table::create().table("blob_lock").col(integer("id").primary_key()).col(deletions).to_owned();
        manager.create_table(lock).await?;
        for (name, table, column) in [
            ("bundle_blobs_by_blob", "bundle_blobs", "blob_digest"),
            ("artifacts_by_digest", "artifacts", "digest"),
            ("model_versions_by_bundle", "model_versions", "bundle_digest"),
            ("dataset_versions_by_blob", "dataset_versions", "blob_digest"),
        ] {
            manager.create_index(index(name, table, &[column]).if_not_exists().take()).await?;
        }
        let row = Query::insert()
            .into_table("blob_lock")
            .columns(["id", "deletions"])
            .values_panic([1.into(), 0_i64.into()])
            .take();
        manager.execute(row).await
    }
}
