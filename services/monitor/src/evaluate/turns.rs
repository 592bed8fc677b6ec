//! Which model is evaluated next.

use std::collections::{HashSet, VecDeque};

use rekindle_domain::ModelName;

/// Models with work, each of which gets one step in turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<ModelName>,
    known: HashSet<ModelName>,
}

impl Turns {
    /// Gives models a turn, after those that wait; one that waits keeps its position.
    pub(super) fn offer(&mut self, models: impl IntoIterator<Item = ModelName>) {
        for model in models {
            if self.known.insert(model.clone()) {
                self.waiting.push_back(model);
            }
        }
    }

    /// The model whose turn it is.
    pub(super) fn next(&mut self) -> Option<ModelName> {
        let model = self.waiting.pop_front()?;
        self.known.remove(&model);
        Some(model)
    }

    /// Gives a model that has more work another turn, after all that wait.
    pub(super) fn again(&mut self, model: ModelName) {
        self.offer([model]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        text.parse().expect("a valid name")
    }

    #[test]
    fn a_backlog_of_one_model_delays_no_other() {
        let mut turns = Turns::default();
        turns.offer([name("backlog")]);
        let (mut steps, mut remaining) = (Vec::new(), 300);
        while let Some(model) = turns.next() {
            steps.push(model.clone());
            if model == name("backlog") && remaining > 0 {
                remaining -= 1;
                turns.again(model);
            }
            if steps.len() == 10 {
                turns.offer([name("backlog"), name("single"), name("other")]);
            }
        }
        assert_eq!(steps.len(), 301 + 2);
        let position = |model: &str| steps.iter().position(|step| *step == name(model)).expect("had its turn");
        assert!(position("single") <= 11 && position("other") <= 12, "{steps:?}");
    }

    #[test]
    fn a_model_that_waits_is_not_offered_twice() {
        let mut turns = Turns::default();
        turns.offer([name("a"), name("b")]);
        turns.offer([name("b"), name("a")]);
        assert_eq!([turns.next(), turns.next(), turns.next()], [Some(name("a")), Some(name("b")), None]);
        turns.offer([name("a")]);
        assert_eq!(turns.next(), Some(name("a")));
    }
}
