//! Who does something, and why: recorded with every change.

/// Who and why.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reason {
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", default_value = "unknown", hide_env_values = true)]
    pub by: String,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
}
