//! Pages of a list: a size, and an opaque token of where the next page begins. The token is the last key of the page before, so that rows that
//! are added or deleted in between cause no row to be skipped or repeated.
//!
//! A page is bounded in rows and in bytes: it ends early where its next row would exceed [`MAX_BYTES`]. A client follows the token, and
//! does not infer the end of the list from the number of rows.

use prost::Message;

/// Rows of a page if the request does not specify any.
pub const DEFAULT_SIZE: u32 = 50;
/// Largest number of rows of a page; a request for more gets this many.
pub const MAX_SIZE: u32 = 500;

/// Bytes of the messages of a page: half of the 4 MiB that gRPC clients accept by default. A single larger message is a page of its own.
pub const MAX_BYTES: usize = 2 << 20;
/// Rows read at a time for a page.
const AT_ONCE: u64 = 64;

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

    /// The messages of the rows that [`Page::fetch`] read, as far as they fit into the page, and the token of the next one: empty on the
    /// last page.
    pub fn cut<T, M: Message>(
        &self,
        rows: Vec<T>,
        key: impl Fn(&T) -> String,
        to_message: impl Fn(&T) -> M,
    ) -> (Vec<M>, String) {
        let mut filling = Filling::of(self);
        for row in &rows {
            if !filling.takes(to_message(row), || key(row)) {
                return filling.with_next();
            }
        }
        (filling.messages, String::new())
    }

    /// Reads the rows of a page after a key a few at a time, so that no more are in memory than the page has, and returns the page as
    /// [`cut`](Self::cut) does. `fetch` returns at most as many rows as its argument, in the order of the list.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub async fn fill<T, K: ToString, M: Message, E, F: Future<Output = Result<Vec<T>, E>>>(
        &self,
        mut after: Option<K>,
        fetch: impl Fn(Option<K>, u64) -> F,
        key: impl Fn(&T) -> K,
        to_message: impl Fn(&T) -> M,
    ) -> Result<(Vec<M>, String), E> {
        let mut filling = Filling::of(self);
        loop {
            let wanted = AT_ONCE.min(self.fetch() - filling.messages.len() as u64);
            let rows = fetch(after, wanted).await?;
            for row in &rows {
                if !filling.takes(to_message(row), || key(row).to_string()) {
                    return Ok(filling.with_next());
                }
            }
            match rows.last() {
                Some(last) if rows.len() as u64 == wanted => after = Some(key(last)),
                _ => return Ok((filling.messages, String::new())),
            }
        }
    }
}

/// A page that is being filled.
struct Filling<M> {
    rows: usize,
    bytes: usize,
    messages: Vec<M>,
    last_key: String,
}

impl<M: Message> Filling<M> {
    fn of(page: &Page) -> Self {
        let rows = usize::try_from(page.size).unwrap_or(usize::MAX);
        Self { rows, bytes: 0, messages: Vec::new(), last_key: String::new() }
    }

    /// Adds a message if there is room for it, and says whether there was.
    fn takes(&mut self, message: M, key: impl FnOnce() -> String) -> bool {
        let bytes = self.bytes + message.encoded_len();
        if self.messages.len() >= self.rows || (bytes > MAX_BYTES && !self.messages.is_empty()) {
            return false;
        }
        self.bytes = bytes;
        self.last_key = key();
        self.messages.push(message);
        true
    }

    fn with_next(self) -> (Vec<M>, String) {
        (self.messages, encode(&self.last_key))
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
            let (rows, next) = page.cut(rows.take(page.fetch() as usize).collect(), u32::to_string, |n| *n);
            seen.extend(rows);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all);
    }

    /// Pages through texts of these lengths, each numbered by its position; returns the lengths of every page.
    async fn pages(lengths: &[usize], size: u32) -> Vec<Vec<usize>> {
        let fetch = |after: Option<usize>, limit: u64| {
            let from = after.map_or(0, |after| after + 1);
            let rows = lengths.iter().copied().enumerate().skip(from).take(limit as usize);
            std::future::ready(Ok::<_, std::convert::Infallible>(rows.collect::<Vec<_>>()))
        };
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let page = parse(size, &token).expect("our own token");
            let after = page.after.as_deref().map(|key| key.parse().expect("a number"));
            let filled = page.fill(after, fetch, |row| row.0, |row| "x".repeat(row.1)).await;
            let (rows, next) = filled.unwrap_or_else(|never| match never {});
            pages.push(rows.iter().map(String::len).collect());
            if next.is_empty() {
                return pages;
            }
            token = next;
        }
    }

    #[tokio::test]
    async fn a_page_ends_early_where_the_next_row_would_exceed_its_bytes() {
        let (small, half, large) = (10, MAX_BYTES / 2 - 100, 3 * MAX_BYTES);
        let lengths = [small, large, half, half, half, small];
        let expected = [vec![small], vec![large], vec![half, half], vec![half, small]];
        assert_eq!(pages(&lengths, 0).await, expected);
        assert_eq!(pages(&lengths, 1).await.concat(), lengths);
        assert_eq!(pages(&[], 0).await, [Vec::<usize>::new()]);
        let many = vec![small; 3 * AT_ONCE as usize];
        for size in [1, 7, 64, 65, 191, 192, 500] {
            assert_eq!(pages(&many, size).await, many.chunks(size as usize).map(<[usize]>::to_vec).collect::<Vec<_>>());
        }
    }

    #[test]
    fn invalid_tokens_are_refused() {
        for token in ["x", "0", "ff"] {
            assert_eq!(parse(0, token).expect_err(token).given, token);
        }
    }
}
