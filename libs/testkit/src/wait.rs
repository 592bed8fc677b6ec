//! Waiting for facts instead of for time.

use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Probes until the fact holds, and gives what the probe found. The bound is 3 min, or `REKINDLE_TEST_PATIENCE_SECONDS`: long, since it
/// only costs time when something is broken.
///
/// # Panics
/// When the bound has passed, with what was waited for and what the last probe saw instead.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let patience = patience();
    let start = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(start.elapsed() < patience, "waited {patience:?} for {what}; the last state was: {seen}");
        tokio::time::sleep(POLL).await;
    }
}

fn patience() -> Duration {
    let seconds = std::env::var("REKINDLE_TEST_PATIENCE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_what_the_probe_finds() {
        let mut looks = 0;
        let found = eventually("three looks", async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("{looks} looks")) }
        })
        .await;
        assert_eq!(found, 3);
    }
}
