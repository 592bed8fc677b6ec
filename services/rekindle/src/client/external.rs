//! The flags of a training by workers outside of the platform.

use std::collections::BTreeMap;

use rekindle_domain::{job::External, validation::Violations};

use super::parse;

/// The workers outside of the platform that train.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ExternalArgs {
    /// Pool of workers outside of the platform that train, or none
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Parameter of the workers; repeatable
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parse::pair, requires = "pool")]
    parameters: Vec<(String, String)>,
}

impl ExternalArgs {
    /// The workers that the flags name; `None` for none.
    pub(crate) fn given(&self) -> Result<Option<External>, Violations> {
        let parameters: BTreeMap<_, _> = self.parameters.iter().cloned().collect();
        match self.pool.clone().filter(|pool| pool != "none") {
            Some(pool) => Ok(Some(External { pool, parameters })),
            None if parameters.is_empty() => Ok(None),
            None => Err(Violations::of("--parameter", "needs a pool")),
        }
    }

    /// Changes what the flags give. Another pool keeps no parameters of the former one.
    pub(crate) fn change(&self, external: &mut Option<External>) -> Result<(), Violations> {
        let given = self.given()?;
        if self.pool.is_some() {
            *external = given;
        }
        Ok(())
    }
}

/// The workers in words.
pub(crate) fn words(external: &External) -> String {
    let parameters: Vec<String> = external.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let list = if parameters.is_empty() { String::new() } else { format!(": {}", parameters.join(", ")) };
    format!("workers of pool {}{list}", external.pool)
}
