//! Lists, page by page, up to what was asked for.

use anyhow::Result;

/// How much of a list to show.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Limit {
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
}

impl Limit {
    /// Fetches pages with `fetch(page_size, page_token)` until there are enough or there are no more.
    pub(crate) async fn fetch<T>(
        self,
        mut fetch: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String)>,
    ) -> Result<Vec<T>> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (mut all, mut token) = (Vec::new(), String::new());
        while all.len() < limit {
            let missing = u32::try_from(limit - all.len()).unwrap_or(u32::MAX);
            let (page, next) = fetch(missing.min(500), token).await?;
            all.extend(page);
            token = next;
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
    async fn pages_are_put_together_up_to_the_limit() {
        let fetch = async |size: u32, token: String| {
            let from: u32 = token.parse().unwrap_or(0);
            let until = (from + size.min(3)).min(8);
            Ok(((from..until).collect(), if until == 8 { String::new() } else { until.to_string() }))
        };
        assert_eq!(Limit { limit: 100 }.fetch(fetch).await.expect("all"), (0..8).collect::<Vec<_>>());
        assert_eq!(Limit { limit: 4 }.fetch(fetch).await.expect("four"), [0, 1, 2, 3]);
    }
}
