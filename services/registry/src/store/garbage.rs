//! What refers to blobs, and the lock under which blobs are deleted and referred to.

use std::collections::BTreeSet;

use rekindle_domain::Digest;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, LockType, Query},
};

use super::{
    entity::{artifact, dataset_version, model_version},
    parsed,
};

/// Rows that are read at a time.
const ROWS: u64 = 500;

/// The columns that may have digests, by table, with its key; and those whose digests may be of lists of further digests.
struct Texts {
    table: &'static str,
    key: &'static [&'static str],
    plain: &'static [&'static str],
    lists: &'static [&'static str],
}

const TEXTS: [Texts; 8] = [
    Texts {
        table: "dataset_versions",
        key: &["name", "version"],
        plain: &["blob_digest", "description"],
        lists: &["parents"],
    },
    Texts {
        table: "model_versions",
        key: &["model", "version"],
        plain: &["dataset_digests", "tags", "evidence", "description"],
        lists: &["bundle_digest"],
    },
    Texts { table: "model_reviews", key: &["model", "version", "number"], plain: &["evidence", "reason"], lists: &[] },
    Texts { table: "runs", key: &["id"], plain: &["params", "tags", "outputs", "dataset_digests"], lists: &[] },
    Texts { table: "artifacts", key: &["owner", "path"], plain: &["digest"], lists: &[] },
    Texts { table: "logged_models", key: &["id"], plain: &["params", "tags"], lists: &[] },
    Texts { table: "experiments", key: &["id"], plain: &["tags"], lists: &[] },
    Texts { table: "models", key: &["name"], plain: &["tags", "description"], lists: &[] },
];

/// Locks against those who refer to blobs, until the transaction ends.
pub(crate) async fn lock(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    held(txn, LockType::Update).await
}

/// Locks against those who delete blobs, until the transaction ends.
pub(crate) async fn share(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    held(txn, LockType::Share).await
}

/// On SQLite, a transaction is the only writer.
async fn held(txn: &DatabaseTransaction, lock: LockType) -> Result<(), DbErr> {
    let row = Query::select().column("id").from("blob_lock").lock(lock).take();
    txn.query_one(&row).await?;
    Ok(())
}

/// Those of the digests that a row refers to.
pub(crate) async fn referenced(txn: &impl ConnectionTrait, digests: &[Digest]) -> Result<BTreeSet<Digest>, DbErr> {
    let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
    let mut found = BTreeSet::new();
    let datasets = dataset_version::Entity::find()
        .select_only()
        .column(dataset_version::Column::BlobDigest)
        .filter(dataset_version::Column::BlobDigest.is_in(&texts));
    let bundles = model_version::Entity::find()
        .select_only()
        .column(model_version::Column::BundleDigest)
        .filter(model_version::Column::BundleDigest.is_in(&texts));
    let files = artifact::Entity::find()
        .select_only()
        .column(artifact::Column::Digest)
        .filter(artifact::Column::Digest.is_in(&texts));
    let parts = Query::select()
        .column("blob_digest")
        .from("bundle_blobs")
        .and_where(sea_orm::ExprTrait::is_in(Expr::col("blob_digest"), texts.iter().map(String::as_str)))
        .take();
    let mut named: Vec<String> = datasets.into_tuple().all(txn).await?;
    named.extend(bundles.into_tuple::<String>().all(txn).await?);
    named.extend(files.into_tuple::<String>().all(txn).await?);
    for row in txn.query_all(&parts).await? {
        named.push(row.try_get("", "blob_digest")?);
    }
    for text in named {
        found.insert(parsed("digest", &text)?);
    }
    Ok(found)
}

/// Writes which blobs a bundle has.
pub(crate) async fn add_bundle(txn: &impl ConnectionTrait, bundle: &Digest, blobs: &[Digest]) -> Result<(), DbErr> {
    for blob in blobs {
        let insert = Query::insert()
            .into_table("bundle_blobs")
            .columns(["bundle_digest", "blob_digest"])
            .values_panic([bundle.to_string().into(), blob.to_string().into()])
            .on_conflict(
                sea_orm::sea_query::OnConflict::columns(["bundle_digest", "blob_digest"]).do_nothing().to_owned(),
            )
            .take();
        txn.execute(&insert).await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Text {
    text: Option<String>,
}

/// Calls `take` with every text that may name digests, and whether these may be of lists of further digests.
pub(crate) async fn each_text(db: &impl ConnectionTrait, mut take: impl FnMut(&str, bool)) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    for Texts { table, key, plain, lists } in TEXTS {
        let columns = plain.iter().map(|column| (*column, false)).chain(lists.iter().map(|column| (*column, true)));
        for (column, has_list) in columns {
            let mut offset = 0;
            loop {
                // Rows that are added meanwhile refer to recent blobs, or are found under the lock.
                let mut page = Query::select();
                page.expr_as(sea_orm::ExprTrait::cast_as(Expr::col(column), "text"), "text");
                page.from(table).limit(ROWS).offset(offset);
                for column in key {
                    page.order_by(*column, sea_orm::Order::Asc);
                }
                let rows = Text::find_by_statement(backend.build(&page)).all(db).await?;
                rows.iter().filter_map(|row| row.text.as_deref()).for_each(|text| take(text, has_list));
                if (rows.len() as u64) < ROWS {
                    break;
                }
                offset += ROWS;
            }
        }
    }
    Ok(())
}
