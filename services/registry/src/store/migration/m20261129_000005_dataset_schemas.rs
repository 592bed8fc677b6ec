//! What is declared of datasets, rules that rows break, and deletion.

use sea_orm_migration::{
    prelude::*,
    schema::{json_binary_null, timestamp_with_time_zone_null},
};

pub(super) struct DatasetSchemas;

impl MigrationName for DatasetSchemas {
    fn name(&self) -> &'static str {
        "m20261129_000005_dataset_schemas"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for DatasetSchemas {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement.
        for mut column in
            [json_binary_null("declared"), json_binary_null("violations"), timestamp_with_time_zone_null("deleted_at")]
        {
            manager.alter_table(Table::alter().table("dataset_versions").add_column(&mut column).take()).await?;
        }
        Ok(())
    }
}
