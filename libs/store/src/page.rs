//! Pages of a list: a size, and an opaque token of where the next page begins. The token is the last key of the page before, so that rows that
//! are added or deleted in between cause no row to be skipped or repeated.

/// Rows of a page if the request does not specify any.
pub const DEFAULT_SIZE: u32 = 50;
/// Largest number of rows of a page; a request for more gets this many.
pub const MAX_SIZE: u32 = 500;

/// Which rows to return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Largest number of rows, from 1 to [`MAX_SIZE`].
    pub size: u64,
    /// Return rows after this key, in the order of the list; `None`: from the beginning.
    pub after: Option<String>,
}

/// A token that no list has returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a page token: use next_page_token of the previous response, or leave it empty")]
pub struct InvalidToken {
    /// The token as given, cut to 80 characters.
    pub given: String,
}

/// Reads `page_size` (0: the default) and `page_token` (empty: from the beginning) of a request.
pub fn parse(page_size: u32, page_token: &str) -> Result<Page, InvalidToken> {
    let size = if page_size == 0 { DEFAULT_SIZE } else { page_size.min(MAX_SIZE) };
    let invalid = || InvalidToken { given: page_token.chars().take(80).collect() };
    let after = match page_token {
        "" => None,
        token => {
            let key = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
            Some(key)
        }
    };
    Ok(Page { size: size.into(), after })
}

/// The token of the page after the row with this key.
pub fn encode(last_key: &str) -> String {
    hex::encode(last_key)
}

impl Page {
    /// How many rows to read: one more than the page has, to detect whether there is another page.
    pub fn fetch(&self) -> u64 {
        self.size + 1
    }

    /// Truncates the rows that [`Page::fetch`] read to the page, and returns the token of the next one: empty on the last page.
    pub fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return (rows, String::new());
        }
        rows.truncate(size);
        let token = rows.last().map_or_else(String::new, |last| encode(&key(last)));
        (rows, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        let size = |asked| parse(asked, "").expect("valid").size;
        assert_eq!((size(0), size(7), size(10_000)), (50, 7, 500));
    }

    #[test]
    fn tokens_page_through_all_rows_once() {
        let all: Vec<u32> = (0..7).collect();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = parse(3, &token).expect("our own token");
            let after = page.after.as_deref().map(|key| key.parse::<u32>().expect("a number"));
            let rows = all.iter().copied().filter(|n| after.is_none_or(|after| *n > after));
            let (rows, next) = page.cut(rows.take(page.fetch() as usize).collect(), u32::to_string);
            seen.extend(rows);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn invalid_tokens_are_refused() {
        for token in ["x", "0", "ff"] {
            assert_eq!(parse(0, token).expect_err(token).given, token);
        }
    }
}
