//! Trainings that are resumed from a checkpoint.

use std::cell::RefCell;

use rekindle_bundle::Bundle;
use rekindle_dataset::Table;
use rekindle_domain::{Recipe, Search, recipe::Calibration};
use rekindle_training::{Checkpoint, Epoch, Error, Supervisor, TrainInput, Trial, search, train_under};

use crate::rows::{linear, origin, recipe, rows, tabm};

const BUILD: &str = "this build";

/// Takes every checkpoint.
#[derive(Default)]
struct Taken {
    epochs: RefCell<Vec<Epoch>>,
    trials: RefCell<Vec<Trial>>,
    checkpoints: RefCell<Vec<Checkpoint>>,
}

impl Supervisor for Taken {
    fn epoch(&self, epoch: &Epoch) {
        self.epochs.borrow_mut().push(epoch.clone());
    }

    fn trial(&self, trial: &Trial) {
        self.trials.borrow_mut().push(trial.clone());
    }

    fn wants_checkpoint(&self) -> bool {
        true
    }

    fn save(&self, checkpoint: Checkpoint) {
        self.checkpoints.borrow_mut().push(checkpoint);
    }
}

/// A training, or a search; from a checkpoint if there is one.
fn trained(table: &Table, recipe: &Recipe, wanted: &Search, from: Option<Checkpoint>) -> (Bundle, Taken) {
    let input = TrainInput { table, time_column: Some("at"), recipe };
    let taken = Taken::default();
    let bundle = if wanted.is_needed() {
        search(&input, wanted, &origin(), from, &taken)
    } else {
        train_under(&input, &origin(), from, &taken)
    };
    (bundle.expect("trains"), taken)
}

/// From every checkpoint, in its stored form, the same bundle follows, and the same history after it.
fn same_from_every_checkpoint(recipe: &Recipe, wanted: &Search) -> Vec<Checkpoint> {
    let table = rows(1300, 1).table();
    let (bundle, all) = trained(&table, recipe, wanted, None);
    for checkpoint in all.checkpoints.borrow().iter() {
        let stored = checkpoint.clone().into_bytes(BUILD).expect("serializable");
        let read = Checkpoint::from_bytes(&stored, &origin().run_id, BUILD).expect("its own");
        let (again, rest) = trained(&table, recipe, wanted, Some(read));
        let at = (checkpoint.trial(), checkpoint.epoch());
        assert_eq!(again.digest().expect("a digest"), bundle.digest().expect("a digest"), "{at:?}");
        assert!(all.epochs.borrow().ends_with(&rest.epochs.borrow()), "{at:?}");
        let trials = |taken: &Taken| -> Vec<_> {
            let shown = |trial: &Trial| (trial.number, trial.recipe.clone(), trial.epochs.clone(), trial.is_best);
            taken.trials.borrow().iter().map(shown).collect()
        };
        assert!(trials(&all).ends_with(&trials(&rest)), "{at:?}");
    }
    all.checkpoints.into_inner()
}

#[test]
fn a_training_continues_from_every_checkpoint_to_the_same_bundle() {
    let calibrated = Recipe { calibration: Calibration::Temperature, ..tabm("late") };
    for recipe in [recipe("amount"), calibrated, linear("grade")] {
        let checkpoints = same_from_every_checkpoint(&recipe, &Search::default());
        assert!(checkpoints.iter().any(|checkpoint| checkpoint.trial().is_some()));
        assert!(checkpoints.iter().any(|checkpoint| checkpoint.trial().is_none()), "of the network to serve, too");
    }
}

#[test]
fn a_search_continues_from_every_checkpoint_to_the_same_trials_and_bundle() {
    let checkpoints = same_from_every_checkpoint(&linear("amount"), &Search::for_lookbacks());
    let mut trials: Vec<_> = checkpoints.iter().map(Checkpoint::trial).collect();
    trials.dedup();
    assert_eq!(trials, [Some(1), Some(2), None], "all rows, and the later half of them");
}

#[test]
fn a_checkpoint_of_another_run_or_build_or_a_damaged_one_is_refused() {
    let (_, taken) = trained(&rows(600, 1).table(), &recipe("late"), &Search::default(), None);
    let bytes = taken.checkpoints.borrow()[0].clone().into_bytes(BUILD).expect("serializable");
    let run = origin().run_id;
    let refused = |bytes: &[u8], run: &str, build: &str| match Checkpoint::from_bytes(bytes, run, build) {
        Err(Error::Checkpoint(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(&bytes, "another", BUILD).contains("another"));
    assert!(refused(&bytes, &run, "newer").contains("of the build"));
    refused(&bytes[..bytes.len() / 2], &run, BUILD);
    refused(b"", &run, BUILD);
}
