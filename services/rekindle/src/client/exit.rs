//! Exit codes that scripts can use, and error messages on standard error.

use std::{error::Error as _, process::ExitCode};

use rekindle_client::Error;
use rekindle_domain::validation::Violations;

use super::{flag, output};

/// The result of a check is negative.
pub(crate) const NEGATIVE: u8 = 3;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 4;
const UNAVAILABLE: u8 = 5;

/// A server other than the control plane that cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreachable(pub String);

/// Prints the error and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let remedy = remedy(error).map(|remedy| format!("; {remedy}")).unwrap_or_default();
    eprintln!("error: {}{remedy}", output::printable_lines(&message(error)));
    ExitCode::from(code(error))
}

/// Whether a service of the platform was not reached.
pub(crate) fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<Error>()).any(Error::is_unreachable)
}

/// How to find, or to make, what does not exist.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    let failed =
        error.chain().find_map(|cause| cause.downcast_ref::<Error>()).filter(|failed| failed.is_not_found())?;
    match failed.metadata("resource").as_str() {
        "dataset" => Some("`rekindle dataset list` lists the datasets"),
        "dataset version" => Some("`rekindle dataset list NAME` lists the versions"),
        "model" => Some("`rekindle models list` lists the models"),
        "model version" => Some("`rekindle models versions NAME` lists the versions"),
        "alias" => Some("`rekindle models list` lists the aliases, `rekindle promote` sets one"),
        "run" => Some("`rekindle runs list` lists the runs"),
        "workflow" => Some("`rekindle workflows list` lists the workflows"),
        "policy of" => Some("`rekindle policy set` sets one"),
        "deployed model" => Some("`rekindle deployments list` lists the deployed models"),
        "alert" => Some("`rekindle alerts list --all` lists the alerts"),
        "silence" => Some("`rekindle alerts silences` lists the silences"),
        "deployment of" => Some("`rekindle deploy` makes one"),
        _ => None,
    }
}

/// The code of the first cause that has one, else 1.
fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(cause_code).unwrap_or(FAILED)
}

fn cause_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Unreachable>() {
        return Some(UNAVAILABLE);
    }
    if cause.is::<Violations>() {
        return Some(USAGE);
    }
    cause.downcast_ref::<Error>().map(|error| match error {
        error if error.is_not_found() => NOT_FOUND,
        error if error.is_unavailable() => UNAVAILABLE,
        _ => FAILED,
    })
}

/// The causes, outermost first. A failed call adds the message of its status, which is written for people; a failed connection adds only
/// its root cause, because the layers between repeat one another.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut add = |cause: String| {
        if !cause.is_empty() && causes.last().is_none_or(|last| !last.contains(&cause)) {
            causes.push(cause);
        }
    };
    for cause in error.chain() {
        add(cause.to_string());
        let Some(failed) = cause.downcast_ref::<Error>() else { continue };
        let Some(status) = failed.status() else { continue };
        // The fields of requests are unknown to users, who give flags.
        add(failed
            .violations()
            .map_or_else(|| status.message().to_owned(), |given| flag::violations(given).to_string()));
        if status.source().is_some() {
            add(error.root_cause().to_string());
        }
        break;
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_first_cause_with_a_code_decides() {
        let unreachable = anyhow::Error::new(Unreachable("no NATS at nats://bus:4222".to_owned())).context("no events");
        assert_eq!(
            (code(&unreachable), message(&unreachable)),
            (5, "no events: no NATS at nats://bus:4222".to_owned())
        );
        let usage = anyhow::Error::new(Violations::of("--seed", "is 9: expected at most 8"));
        assert_eq!((code(&usage), message(&usage)), (2, "--seed: is 9: expected at most 8".to_owned()));
        assert_eq!(code(&anyhow::anyhow!("it broke")), 1);
    }

    #[tokio::test]
    async fn a_failed_connection_is_unreachable_and_says_so_once() {
        let connection = rekindle_client::Connection::open("http://127.0.0.1:1", std::time::Duration::from_secs(5));
        let failed = connection.expect("an address").problem().await.context("not ready").expect_err("no server");
        let message = message(&failed);
        assert_eq!(code(&failed), 5, "{message}");
        assert!(message.starts_with("not ready: failed to check the health"), "{message}");
        assert_eq!(message.to_lowercase().matches("refused").count(), 1, "{message}");
    }
}
