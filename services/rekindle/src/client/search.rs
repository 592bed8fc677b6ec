//! The flags of a search for a recipe.

use std::time::Duration;

use rekindle_domain::{Search, validation::Violations};

use super::parse;

/// What is tried besides the recipe.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SearchArgs {
    /// What is tried besides the recipe; the best recipe makes the model
    #[arg(long, value_enum, value_name = "WHAT,..", value_delimiter = ',')]
    search: Option<Vec<What>>,
    /// Time after which no further recipe is tried; the training of the model with the best one follows
    #[arg(long, value_name = "D", value_parser = parse::span)]
    budget: Option<Duration>,
    /// Recipes that are tried at most
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    trials: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Shorter lookbacks (half of the time that the rows span, a quarter, and so on), and a half-life of the weights of rows
    Lookbacks,
    /// Other kinds of model and other hyperparameters
    Models,
    /// Nothing
    None,
}

impl SearchArgs {
    /// Changes what the flags give.
    pub(crate) fn change(&self, search: &mut Search) -> Result<(), Violations> {
        if let Some(given) = &self.search {
            if given.contains(&What::None) && given.len() > 1 {
                return Err(Violations::of("--search", "specify either none or what to try, not both"));
            }
            search.lookbacks = given.contains(&What::Lookbacks);
            search.models = given.contains(&What::Models);
        }
        search.budget = self.budget.unwrap_or(search.budget);
        search.trials = self.trials.unwrap_or(search.trials);
        Ok(())
    }
}

/// The search in words.
pub(crate) fn words(search: &Search) -> String {
    let what = match (search.lookbacks, search.models) {
        (false, false) => return "none".to_owned(),
        (true, false) => "lookbacks",
        (false, true) => "models",
        (true, true) => "lookbacks and models",
    };
    format!("{what}, at most {} trials in {}", search.trials, humantime::format_duration(search.budget))
}
