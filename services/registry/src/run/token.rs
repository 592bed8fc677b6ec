//! Tokens of the pages of a search. A token holds the last run of the page, and which search it belongs to.

use std::{fmt, str::FromStr};

use rekindle_domain::{Digest, RunId, run::Run};
use sea_orm::DatabaseConnection;

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

/// Makes the cursors of a search, whose digest is computed once.
#[derive(Debug)]
pub(crate) struct Cursors<'a> {
    search: &'a Search,
    digest: String,
}

impl<'a> Cursors<'a> {
    pub(crate) fn of(search: &'a Search) -> Self {
        let digest = Digest::of(format!("{search:?}").as_bytes()).to_string();
        Self { search, digest: digest.trim_start_matches("sha256:").chars().take(16).collect() }
    }

    /// After a run with its metrics.
    pub(crate) fn after(&self, run: &Run) -> Cursor {
        let token = Token { search: self.digest.clone(), last: run.id };
        Cursor { token, position: Position::of(run, &self.search.orders) }
    }

    /// After the last run of the page that a token ends. Its place is where it belongs now.
    pub(crate) async fn resume(&self, db: &DatabaseConnection, token: Option<Token>) -> Result<Option<Cursor>, Error> {
        let Some(token) = token else { return Ok(None) };
        if token.search != self.digest {
            return Err(Error::invalid("page_token", "belongs to a list with other conditions, or in another order"));
        }
        Ok(Some(self.after(&super::get(db, token.last).await?)))
    }
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
