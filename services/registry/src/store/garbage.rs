//! What refers to blobs, and the lock under which blobs are deleted and referred to.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rekindle_domain::Digest;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, FromQueryResult, QueryFilter,
    QuerySelect,
    sea_query::{Expr, LockType, OnConflict, Query, SelectStatement, SimpleExpr},
};
use uuid::Uuid;

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

static TEXTS: [Texts; 8] = [
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
    Texts { table: "runs", key: &["id"], plain: &["params", "tags", "dataset_digests"], lists: &["outputs"] },
    Texts { table: "artifacts", key: &["owner", "path"], plain: &["digest"], lists: &[] },
    Texts { table: "logged_models", key: &["id"], plain: &["params", "tags"], lists: &[] },
    Texts { table: "experiments", key: &["id"], plain: &["tags"], lists: &[] },
    Texts { table: "models", key: &["name"], plain: &["tags", "description"], lists: &[] },
];

/// Locks against those who refer to blobs, until the transaction ends, and counts a deletion.
pub(crate) async fn lock(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    let count = Query::update().table("blob_lock").value("deletions", Expr::col("deletions").add(1)).take();
    txn.execute(&count).await?;
    Ok(())
}

/// Locks against those who delete blobs, until the transaction ends. Returns the number of deletions so far. On SQLite, a transaction is the only
/// writer.
pub(crate) async fn share(txn: &DatabaseTransaction) -> Result<i64, DbErr> {
    deletions_of(txn, Some(LockType::Share)).await
}

/// The number of deletions so far.
pub(crate) async fn deletions(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    deletions_of(db, None).await
}

async fn deletions_of(db: &impl ConnectionTrait, lock: Option<LockType>) -> Result<i64, DbErr> {
    let mut select = Query::select();
    select.column("deletions").from("blob_lock");
    if let Some(lock) = lock {
        select.lock(lock);
    }
    let row = db.query_one(&select).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the lock of blobs".to_owned()))?.try_get("", "deletions")
}

/// Marks blobs as about to be deleted by a collection, except those that another one has marked.
pub(crate) async fn condemn(
    txn: &impl ConnectionTrait,
    digests: Vec<Digest>,
    collection: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    for digest in digests {
        let insert = Query::insert()
            .into_table("condemned_blobs")
            .columns(["blob_digest", "collection", "since"])
            .values_panic([digest.to_string().into(), collection.into(), now.into()])
            .on_conflict(OnConflict::column("blob_digest").do_nothing().to_owned())
            .take();
        txn.execute(&insert).await?;
    }
    Ok(())
}

/// Whether there are marks from before a time.
pub(crate) async fn is_any_before(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<bool, DbErr> {
    Ok(!condemned(db, Expr::col("since").lt(before)).await?.is_empty())
}

/// Removes marks from before a time: the collections that made them have ended.
pub(crate) async fn absolve_before(txn: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<(), DbErr> {
    let delete = Query::delete().from_table("condemned_blobs").and_where(Expr::col("since").lt(before)).take();
    txn.execute(&delete).await?;
    Ok(())
}

/// The blobs that a collection has marked.
pub(crate) async fn condemned_by(db: &impl ConnectionTrait, collection: Uuid) -> Result<Vec<Digest>, DbErr> {
    condemned(db, Expr::col("collection").eq(collection)).await
}

/// Those of the digests that were marked since a time.
pub(crate) async fn condemned_of(
    db: &impl ConnectionTrait,
    digests: &[Digest],
    since: DateTime<Utc>,
) -> Result<Vec<Digest>, DbErr> {
    let named = ExprTrait::is_in(Expr::col("blob_digest"), digests.iter().map(Digest::to_string));
    condemned(db, named.and(Expr::col("since").gte(since))).await
}

async fn condemned(db: &impl ConnectionTrait, condition: SimpleExpr) -> Result<Vec<Digest>, DbErr> {
    let select = Query::select().column("blob_digest").from("condemned_blobs").and_where(condition).take();
    let rows = db.query_all(&select).await?;
    rows.iter().map(|row| parsed("blob_digest", &row.try_get::<String>("", "blob_digest")?)).collect()
}

/// Removes the marks of a collection.
pub(crate) async fn absolve(txn: &impl ConnectionTrait, collection: Uuid) -> Result<(), DbErr> {
    let delete = Query::delete().from_table("condemned_blobs").and_where(Expr::col("collection").eq(collection)).take();
    txn.execute(&delete).await?;
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
        .and_where(ExprTrait::is_in(Expr::col("blob_digest"), texts.iter().map(String::as_str)))
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
            .on_conflict(OnConflict::columns(["bundle_digest", "blob_digest"]).do_nothing().to_owned())
            .take();
        txn.execute(&insert).await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Text {
    text: Option<String>,
}

/// A column of [`TEXTS`].
struct TextColumn {
    of: &'static Texts,
    name: &'static str,
    has_lists: bool,
}

impl TextColumn {
    fn all() -> Vec<Self> {
        let columns = |of: &'static Texts| {
            let plain = of.plain.iter().map(move |name| Self { of, name, has_lists: false });
            plain.chain(of.lists.iter().map(move |name| Self { of, name, has_lists: true }))
        };
        TEXTS.iter().flat_map(columns).collect()
    }

    /// Some rows. Those that are added meanwhile refer to recent blobs, or are found under the lock.
    fn page(&self, offset: u64) -> SelectStatement {
        let mut page = Query::select();
        page.expr_as(ExprTrait::cast_as(Expr::col(self.name), "text"), "text");
        page.from(self.of.table).limit(ROWS).offset(offset);
        for column in self.of.key {
            page.order_by(*column, sea_orm::Order::Asc);
        }
        page
    }
}

/// Calls `take` with every text that may name digests, and whether these may be of lists of further digests.
pub(crate) async fn each_text(db: &impl ConnectionTrait, mut take: impl FnMut(&str, bool)) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    for column in TextColumn::all() {
        let mut offset = 0;
        loop {
            let rows = Text::find_by_statement(backend.build(&column.page(offset))).all(db).await?;
            rows.iter().filter_map(|row| row.text.as_deref()).for_each(|text| take(text, column.has_lists));
            if (rows.len() as u64) < ROWS {
                break;
            }
            offset += ROWS;
        }
    }
    Ok(())
}
