//! The author of a change and its reason, which are recorded with the change.

use rekindle_domain::Principal;

/// Author and reason.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reason {
    /// Author of the change
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        default_value = "unknown",
        hide_env_values = true,
        value_parser = author
    )]
    pub by: Principal,
    /// Reason for the change
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
}

/// A principal that the metadata of a call can carry.
fn author(text: &str) -> Result<Principal, String> {
    if !text.is_ascii() {
        return Err("expected ASCII characters".to_owned());
    }
    text.parse().map_err(|error: rekindle_domain::principal::InvalidPrincipal| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_that_would_not_be_sent_is_refused() {
        assert_eq!(author("alice").as_ref().map(Principal::as_str), Ok("alice"));
        assert!(author("Zoë").is_err() && author("").is_err() && author("a\nb").is_err());
    }
}
