//! Lists, fetched page by page.

use rekindle_client::{Error, Page, PageRequest};

use super::parse;

/// The most items that one page holds.
const PAGE_SIZE: u32 = 500;

/// The length of a list.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Limit {
    /// Maximum number of items
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = parse::whole::<u32>)]
    pub limit: u32,
}

impl Limit {
    /// The whole list.
    pub(crate) const NONE: Self = Self { limit: u32::MAX };

    /// Fetches pages until the limit or the end of the list is reached.
    pub(crate) async fn fetch<T>(
        self,
        mut fetch: impl AsyncFnMut(PageRequest) -> Result<Page<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (mut all, mut token) = (Vec::new(), String::new());
        while all.len() < limit {
            let missing = u32::try_from(limit - all.len()).unwrap_or(u32::MAX);
            let page = fetch(PageRequest { size: missing.min(PAGE_SIZE), token }).await?;
            all.extend(page.items);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        all.truncate(limit);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_fetched_up_to_the_limit() {
        let fetch = async |page: PageRequest| {
            let from: u32 = page.token.parse().unwrap_or(0);
            let until = (from + page.size.min(3)).min(8);
            let next_page_token = if until == 8 { String::new() } else { until.to_string() };
            Ok(Page { items: (from..until).collect(), next_page_token })
        };
        assert_eq!(Limit::NONE.fetch(fetch).await.expect("all"), (0..8).collect::<Vec<_>>());
        assert_eq!(Limit { limit: 4 }.fetch(fetch).await.expect("four"), [0, 1, 2, 3]);
    }
}
