//! When a call is repeated: on a server that is not reached or overloaded, with exponential back-off and jitter.

use std::{future::Future, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use tonic::{Code, Response, Status};

use crate::error::is_transient;

/// The retry policy of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; 1 does not retry.
    pub attempts: usize,
    /// The pause before the first repetition; it doubles with each.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// No repetition: a reconciler that comes back anyway does not need one.
    fn default() -> Self {
        Self { attempts: 1, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(2) }
    }
}

impl Retry {
    /// A policy with that many attempts.
    pub fn attempts(attempts: usize) -> Self {
        Self { attempts, ..Self::default() }
    }

    pub(crate) async fn run<T, F>(self, call: impl Fn() -> F) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter();
        call.retry(pauses).when(is_worth_repeating).await
    }
}

/// A stale revision stays stale: the caller must re-read the resource, so ABORTED is not repeated here. Neither is CANCELLED, which the
/// caller's own deadline causes.
fn is_worth_repeating(status: &Status) -> bool {
    is_transient(status) && !matches!(status.code(), Code::Aborted | Code::Cancelled | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn calls_until(code: Code) -> usize {
        let calls = Cell::new(0);
        let retry =
            Retry { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
        let call = || {
            calls.set(calls.get() + 1);
            async { Err::<Response<()>, _>(Status::new(code, "")) }
        };
        assert!(retry.run(call).await.is_err());
        calls.get()
    }

    #[tokio::test]
    async fn only_what_a_repetition_can_mend_is_repeated() {
        assert_eq!(calls_until(Code::Unavailable).await, 3);
        for code in [Code::Aborted, Code::InvalidArgument, Code::NotFound, Code::Internal] {
            assert_eq!(calls_until(code).await, 1, "{code:?}");
        }
    }
}
