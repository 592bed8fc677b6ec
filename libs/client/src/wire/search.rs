//! Searches for a recipe.

use rekindle_domain::{Search, validation::Violations};
use rekindle_proto::trainer as wire;

use super::{field::span_or, time::span_to_wire};

/// A search as a message, every default filled in.
pub fn to_wire(search: &Search) -> wire::Search {
    wire::Search {
        lookbacks: search.lookbacks,
        models: search.models,
        trials: Some(search.trials),
        budget: Some(span_to_wire(search.budget)),
    }
}

/// The search that a message holds; unset fields take their defaults.
pub fn from_wire(given: wire::Search) -> Result<Search, Violations> {
    let search = recorded(given)?;
    search.validate().map(|()| search)
}

/// A stored search. Its bounds were those of the release that stored it, so they are not checked again.
pub fn recorded(given: wire::Search) -> Result<Search, Violations> {
    let base = Search::default();
    Ok(Search {
        lookbacks: given.lookbacks,
        models: given.models,
        trials: given.trials.unwrap_or(base.trials),
        budget: span_or("budget", given.budget, base.budget)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn searches_survive_and_bad_ones_are_refused() {
        let search = Search { trials: 7, budget: Duration::from_secs(90), ..Search::for_everything() };
        assert_eq!(from_wire(to_wire(&search)), Ok(search));
        assert_eq!(from_wire(wire::Search::default()), Ok(Search::default()));
        for (field, bad) in [
            ("trials", wire::Search { trials: Some(0), ..Default::default() }),
            ("budget", wire::Search { budget: Some(prost_types::Duration::default()), ..Default::default() }),
        ] {
            let violations = from_wire(bad).expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }
}
