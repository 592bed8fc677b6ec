//! The registry's tables: conversion between rows and domain types. The only code that uses sea-orm.
//!
//! Functions that write take the transaction that they are part of. A mutable record is updated on the condition that it still has the
//! revision that was read, and the result says whether it was updated.

pub(crate) mod aliases;
pub(crate) mod artifacts;
pub(crate) mod datasets;
mod entity;
pub(crate) mod experiments;
pub(crate) mod garbage;
pub(crate) mod logged_models;
pub(crate) mod migration;
pub(crate) mod models;
pub(crate) mod run_links;
pub(crate) mod runs;

use std::{fmt::Display, str::FromStr};

use rekindle_domain::Digest;
use sea_orm::{
    DbErr,
    sea_query::{Expr, ExprTrait, IntoColumnRef, SimpleExpr},
};

/// A number that the database keeps signed and the domain does not.
fn unsigned<T: TryFrom<i64>>(column: &'static str, number: i64) -> Result<T, DbErr> {
    T::try_from(number).map_err(|_| DbErr::Type(format!("column {column} holds {number}")))
}

/// A size or a count as the database keeps it. Nothing here comes near the bound.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A version number as the database keeps it.
fn version_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A text that was a name, a digest or an id when it was written.
fn parsed<T: FromStr<Err: Display>>(column: &'static str, text: &str) -> Result<T, DbErr> {
    text.parse().map_err(|error| DbErr::Type(format!("column {column}: {error}")))
}

/// Bytes of the texts of a key at most: PostgreSQL keeps no more than 2,704 in an entry of an index.
pub(crate) const KEY_BYTES: usize = 2_000;

/// Whether a list of digests, as JSON, has this one.
fn names(column: impl IntoColumnRef, digest: &Digest) -> SimpleExpr {
    let text = ExprTrait::cast_as(Expr::col(column), "text");
    ExprTrait::like(text, format!("%{digest}%"))
}
