//! From an error to an exit code that scripts can use, and to words on standard error.

use std::{error::Error as _, process::ExitCode};

use tonic::{Code, Status};

/// A check was carried out and said no.
pub(crate) const SAID_NO: u8 = 3;
const NOT_FOUND: u8 = 4;
const UNREACHABLE: u8 = 5;

/// Tells the error, and chooses the code: that of the first gRPC status among its causes, else 1.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", words(error));
    ExitCode::from(code(error))
}

/// Whether the platform could not be reached at all.
pub(crate) fn is_unreachable(error: &anyhow::Error) -> bool {
    code(error) == UNREACHABLE
}

fn status(error: &anyhow::Error) -> Option<&Status> {
    error.chain().find_map(|cause| cause.downcast_ref::<Status>())
}

fn code(error: &anyhow::Error) -> u8 {
    match status(error).map(Status::code) {
        Some(Code::NotFound) => NOT_FOUND,
        Some(Code::Unavailable) => UNREACHABLE,
        _ => 1,
    }
}

/// The causes from the outermost on; of a status only its message, which is written for people, and of what lies beneath a failed
/// connection only the root.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut tell = |cause: String| {
        if !cause.is_empty() && told.last().is_none_or(|last| !last.contains(&cause)) {
            told.push(cause);
        }
    };
    for cause in error.chain() {
        let Some(status) = cause.downcast_ref::<Status>() else {
            tell(cause.to_string());
            continue;
        };
        tell(status.message().to_owned());
        if status.source().is_some() {
            tell(error.root_cause().to_string());
        }
        break;
    }
    told.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn failing(code: Code) -> anyhow::Error {
        Err::<(), _>(Status::new(code, "model \"x\" is not known"))
            .context("cannot show the model")
            .expect_err("an error")
    }

    #[test]
    fn the_status_decides_the_code_and_gives_its_message() {
        for (wire, expected) in [(Code::NotFound, 4), (Code::Unavailable, 5), (Code::InvalidArgument, 1)] {
            assert_eq!(code(&failing(wire)), expected);
        }
        assert_eq!(words(&failing(Code::NotFound)), "cannot show the model: model \"x\" is not known");
    }
}
