//! Tokens of the pages of a search. A token holds the last run of the page, and which search it belongs to.

use std::{fmt, str::FromStr};

use rekindle_domain::{Digest, RunId, run::Run};
use sea_orm::DatabaseConnection;

use super::position;
use crate::{
    Error,
    store::runs::{Position, Search},
};

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The beginning of the digest of the search.
    search: String,
    last: RunId,
}

/// Where a page begins.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    token: Token,
    pub(crate) position: Position,
}

impl Cursor {
    /// After a run with its metrics.
    pub(crate) fn of(run: &Run, search: &Search) -> Self {
        let token = Token { search: digest(search), last: run.id };
        Self { token, position: Position::of(run, &search.orders) }
    }
}

/// Continues a search after the last run of a page. Its place is where it belongs now.
pub(crate) async fn resume(
    db: &DatabaseConnection,
    search: &Search,
    token: Option<Token>,
) -> Result<Option<Cursor>, Error> {
    let Some(token) = token else { return Ok(None) };
    if token.search != digest(search) {
        return Err(Error::invalid("page_token", "belongs to a list with other conditions, or in another order"));
    }
    let position = position(db, token.last, &search.orders).await?;
    Ok(Some(Cursor { token, position }))
}

fn digest(search: &Search) -> String {
    let digest = Digest::of(format!("{search:?}").as_bytes()).to_string();
    digest.trim_start_matches("sha256:").chars().take(16).collect()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.token.search, self.token.last)
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (search, last) = text.split_once(' ').ok_or(())?;
        Ok(Self { search: search.to_owned(), last: last.parse().map_err(|_| ())? })
    }
}
