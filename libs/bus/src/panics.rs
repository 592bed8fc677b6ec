//! Panics while a message is processed. Nothing that a message contains should cause one; if it does, it ends the work on that message and
//! not the process, which would take the same message again at its next start.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;

/// The work on a message panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("processing it panicked: {0}")]
pub struct Panicked(String);

/// The result of `work`, or its panic. State that `work` shares must be consistent wherever it may panic: transactions, for instance, roll
/// back.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| Panicked(message(payload.as_ref())))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        let panicked = caught::<()>(async { panic!("at row {}", 3) }).await.expect_err("it panics");
        assert_eq!(panicked.to_string(), "processing it panicked: at row 3");
        assert!(caught::<()>(async { panic!("as text") }).await.is_err());
    }
}
