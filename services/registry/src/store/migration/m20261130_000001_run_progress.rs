//! How far runs are.

use sea_orm_migration::{prelude::*, schema::json_binary_null};

pub(super) struct RunProgress;

impl MigrationName for RunProgress {
    fn name(&self) -> &'static str {
        "m20261130_000001_run_progress"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for RunProgress {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = json_binary_null("progress");
        manager.alter_table(Table::alter().table("runs").add_column(&mut column).take()).await
    }
}
