//! Waiting for conditions instead of sleeping.

use std::time::{Duration, Instant};

/// Interval between two probes.
const POLL: Duration = Duration::from_millis(20);

/// Probes until the condition holds, and returns the value of the probe. The deadline is 3 min, or `REKINDLE_TEST_PATIENCE_SECONDS`: it
/// is long, since it is only reached when a test fails.
///
/// # Panics
/// When the deadline has passed, with `what` and the state that the last probe returned.
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
    async fn the_value_of_the_first_successful_probe_is_returned() {
        let mut probes = 0;
        let found = eventually("three probes", async || {
            probes += 1;
            if probes == 3 { Ok(probes) } else { Err(format!("{probes} probes")) }
        })
        .await;
        assert_eq!(found, 3);
    }
}
