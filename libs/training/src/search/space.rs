//! The recipes that a search tries, one after the other.

use std::time::Duration;

use rand::{RngExt, SeedableRng, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use rekindle_domain::{
    Recipe, Search,
    recipe::{CnnRecipe, LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, RowWeights, TabMRecipe},
};

use super::seconds;
use crate::{Error, TrainInput, prepare::split};

/// Training rows of a lookback at least.
const MIN_LOOKBACK_ROWS: usize = 500;
/// Milliseconds of a lookback at least: recipes record seconds.
const MIN_LOOKBACK_MS: i64 = 1000;
/// Lookbacks at most.
const MAX_LOOKBACKS: u32 = 6;

const HIDDEN: [&[usize]; 5] = [&[64], &[128, 64], &[256, 128], &[256, 256], &[512, 256]];
const MEMBERS: [usize; 4] = [1, 4, 8, 16];
const BINS: [usize; 4] = [0, 16, 32, 64];
const BATCH_SIZES: [usize; 4] = [64, 256, 512, 1024];
/// Rows that all members of an ensemble together have in a batch at most: the memory of a step grows with them.
const MEMBER_ROWS: usize = 4096;
const DROPOUT: [f64; 4] = [0.0, 0.1, 0.2, 0.4];
const AVERAGING: [f64; 3] = [0.99, 0.995, 0.999];
/// Bounds of the natural logarithm of the learning rate (0.0003 to 0.005) and of the weight decay (0.000001 to 0.1).
const LOG_RATE: (f64, f64) = (-8.1, -5.3);
const LOG_DECAY: (f64, f64) = (-13.8, -2.3);
/// How often a recipe that was tried before is drawn again.
const REDRAWS: u32 = 20;
/// Epochs and patience of recipes that are drawn: enough for a low learning rate.
const EPOCHS: (u32, u32) = (200, 10);

/// The recipes of a search.
pub(super) struct Space {
    /// Still to be tried, last first.
    queue: Vec<Step>,
    base: Recipe,
    models: bool,
    random: ChaCha8Rng,
    /// The recipes so far.
    tried: Vec<Recipe>,
}

/// How a recipe follows from the best one so far.
#[derive(Debug, Clone)]
enum Step {
    Base,
    Lookback(Option<Duration>),
    HalfLife(Duration),
    Model(ModelRecipe),
}

impl Space {
    pub(super) fn new(input: &TrainInput<'_>, search: &Search) -> Result<Self, Error> {
        let base = input.recipe.clone();
        let mut steps = vec![Step::Base];
        if search.lookbacks {
            let all = base.lookback.is_some().then_some(None);
            let lookbacks = lookbacks(input)?;
            // A quarter of the time that the rows span.
            let half_life = lookbacks.get(1).copied().filter(|_| base.weights.half_life.is_none());
            steps.extend(all.into_iter().chain(lookbacks.into_iter().map(Some)).map(Step::Lookback));
            steps.extend(half_life.map(Step::HalfLife));
        }
        if search.models {
            let optimizer = base.model.optimizer();
            let kinds = [
                ModelRecipe::Linear(LinearRecipe { optimizer: optimizer.clone() }),
                ModelRecipe::TabM(TabMRecipe { optimizer: optimizer.clone(), ..TabMRecipe::default() }),
            ];
            steps.extend(kinds.into_iter().filter(|kind| kind.kind() != base.model.kind()).map(Step::Model));
        }
        steps.reverse();
        let random = ChaCha8Rng::seed_from_u64(base.seed);
        Ok(Self { queue: steps, base, models: search.models, random, tried: Vec::new() })
    }

    /// The next recipe; `None` if there is none. `best` is the best one so far.
    pub(super) fn next(&mut self, best: Option<&Recipe>) -> Option<Recipe> {
        let mut recipe = self.proposed(best)?;
        for _ in 0..REDRAWS {
            if !self.tried.contains(&recipe) {
                break;
            }
            recipe = self.proposed(best)?;
        }
        self.tried.push(recipe.clone());
        Some(recipe)
    }

    fn proposed(&mut self, best: Option<&Recipe>) -> Option<Recipe> {
        let best = best.unwrap_or(&self.base).clone();
        match self.queue.pop() {
            Some(Step::Base) => Some(self.base.clone()),
            // Lookbacks are compared for the model of the base.
            Some(Step::Lookback(lookback)) => Some(Recipe { lookback, ..self.base.clone() }),
            Some(Step::HalfLife(half_life)) => {
                let weights = RowWeights { half_life: Some(half_life), ..best.weights };
                Some(Recipe { weights, ..best })
            }
            Some(Step::Model(model)) => Some(Recipe { model, ..best }),
            None if self.models => {
                let model = if self.random.random_bool(0.5) { self.near(&best.model) } else { self.anywhere() };
                Some(Recipe { model: bounded(model), ..best })
            }
            None => None,
        }
    }

    /// An ensemble or, with one member and no bins, a multi-layer perceptron.
    fn anywhere(&mut self) -> ModelRecipe {
        let (hidden, dropout) = (self.choice(&HIDDEN).to_vec(), self.choice(&DROPOUT));
        let (members, bins) = (self.choice(&MEMBERS), self.choice(&BINS));
        let optimizer = Optimizer {
            max_epochs: EPOCHS.0,
            patience: EPOCHS.1,
            batch_size: self.choice(&BATCH_SIZES),
            learning_rate: self.between(LOG_RATE).exp(),
            weight_decay: self.between(LOG_DECAY).exp(),
            averaging: self.choice(&AVERAGING),
        };
        if members == 1 && bins == 0 {
            ModelRecipe::Mlp(MlpRecipe { hidden, dropout, optimizer })
        } else {
            ModelRecipe::TabM(TabMRecipe { members, bins, hidden, dropout, optimizer })
        }
    }

    /// A model that differs from `model` in one or two hyperparameters.
    fn near(&mut self, model: &ModelRecipe) -> ModelRecipe {
        let mut near = model.clone();
        for _ in 0..self.random.random_range(1..=2) {
            let (rate, decay) = (self.between((-0.7, 0.7)).exp(), self.between((-2.3, 2.3)).exp());
            let (choice, hidden) = (self.random.random_range(0..8), self.choice(&HIDDEN).to_vec());
            let (dropout, members, bins) = (self.choice(&DROPOUT), self.choice(&MEMBERS), self.choice(&BINS));
            let (batch_size, averaging) = (self.choice(&BATCH_SIZES), self.choice(&AVERAGING));
            let optimizer = near.optimizer_mut();
            (optimizer.max_epochs, optimizer.patience) =
                (optimizer.max_epochs.max(EPOCHS.0), optimizer.patience.max(EPOCHS.1));
            match (choice, &mut near) {
                (
                    0,
                    ModelRecipe::Mlp(MlpRecipe { hidden: own, .. })
                    | ModelRecipe::TabM(TabMRecipe { hidden: own, .. })
                    | ModelRecipe::Cnn(CnnRecipe { hidden: own, .. }),
                ) => {
                    *own = hidden;
                }
                (
                    1,
                    ModelRecipe::Mlp(MlpRecipe { dropout: own, .. })
                    | ModelRecipe::TabM(TabMRecipe { dropout: own, .. })
                    | ModelRecipe::Cnn(CnnRecipe { dropout: own, .. }),
                ) => {
                    *own = dropout;
                }
                (2, ModelRecipe::TabM(tabm)) => tabm.members = members,
                (3, ModelRecipe::TabM(tabm)) => tabm.bins = bins,
                (4, near) => near.optimizer_mut().batch_size = batch_size,
                (5, near) => near.optimizer_mut().averaging = averaging,
                (6, near) => near.optimizer_mut().weight_decay *= decay,
                (_, near) => near.optimizer_mut().learning_rate *= rate,
            }
        }
        near
    }

    fn choice<T: Copy>(&mut self, values: &[T]) -> T {
        *values.choose(&mut self.random).unwrap_or(&values[0])
    }

    fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        self.random.random_range(low..high)
    }
}

/// Half of the time that the rows span, a quarter, and so on, as long as enough rows are in it. None without a time column.
fn lookbacks(input: &TrainInput<'_>) -> Result<Vec<Duration>, Error> {
    let Some(column) = input.time_column else { return Ok(Vec::new()) };
    let mut times = input.table.times(column).map_err(|error| Error::column(column, error.to_string()))?.to_vec();
    times.sort_unstable();
    times.truncate(split(times.len().max(2), input.recipe.validation_share));
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(Vec::new()) };
    let span = last.saturating_sub(*first);
    let halves = (1..=MAX_LOOKBACKS).map(|halvings| span >> halvings);
    let rows = |lookback: &i64| times.len() - times.partition_point(|time| *time < last.saturating_sub(*lookback));
    Ok(halves
        .take_while(|lookback| *lookback >= MIN_LOOKBACK_MS && rows(lookback) >= MIN_LOOKBACK_ROWS)
        .map(seconds)
        .collect())
}

/// The model with batches that are small enough for its members.
fn bounded(mut model: ModelRecipe) -> ModelRecipe {
    let members = match &model {
        ModelRecipe::TabM(tabm) => tabm.members,
        ModelRecipe::Linear(_) | ModelRecipe::Mlp(_) | ModelRecipe::Cnn(_) => 1,
    };
    let most = (MEMBER_ROWS / members.max(1)).max(BATCH_SIZES[0]);
    let optimizer = model.optimizer_mut();
    optimizer.batch_size = optimizer.batch_size.min(most);
    model
}

/// Recipes of which one takes at least as much memory as every recipe that a search draws: with the most members, and with the most rows in a
/// batch.
pub(crate) fn largest(base: &Recipe) -> Vec<Recipe> {
    let optimizer = Optimizer { batch_size: 1024, ..base.model.optimizer().clone() };
    let (own, members, bins) = match &base.model {
        ModelRecipe::Linear(_) => (None, 1, 0),
        ModelRecipe::Mlp(mlp) => (Some(&mlp.hidden), 1, 0),
        ModelRecipe::TabM(tabm) => (Some(&tabm.hidden), tabm.members, tabm.bins),
        ModelRecipe::Cnn(cnn) => (Some(&cnn.hidden), 1, 0),
    };
    let (bins, wide) = (bins.max(64), vec![512, 256]);
    let of = |hidden: &Vec<usize>, members| {
        let (hidden, optimizer) = (hidden.clone(), optimizer.clone());
        let model = TabMRecipe { members, bins, hidden, optimizer, ..TabMRecipe::default() };
        Recipe { model: bounded(ModelRecipe::TabM(model)), ..base.clone() }
    };
    let (own, most) = (own.unwrap_or(&wide), members.max(16));
    let images = match &base.model {
        ModelRecipe::Cnn(cnn) => Some(ModelRecipe::Cnn(CnnRecipe { optimizer: optimizer.clone(), ..cnn.clone() })),
        _ => None,
    };
    let images = images.map(|model| Recipe { model, ..base.clone() });
    [of(&wide, most), of(own, most), of(&wide, 4), of(own, 4)].into_iter().chain(images).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
    use rekindle_dataset::Table;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn table(rows: i64) -> Table {
        let columns: [(&str, ArrayRef); 2] = [
            ("at", Arc::new((0..rows).map(|row| Some(row * HOUR_MS)).collect::<TimestampMillisecondArray>())),
            ("late", Arc::new((0..rows).map(|row| Some(row % 2)).collect::<Int64Array>())),
        ];
        Table::from_batch(&RecordBatch::try_from_iter(columns).expect("columns of one length")).expect("a table")
    }

    fn recipes(search: &Search, time_column: Option<&str>, count: usize) -> Vec<Recipe> {
        // The first 4,001 rows are training rows.
        let (table, recipe) = (table(4707), Recipe::for_target("late"));
        let input = TrainInput { table: &table, time_column, recipe: &recipe };
        let mut space = Space::new(&input, search).expect("a space");
        std::iter::from_fn(|| space.next(None)).take(count).collect()
    }

    #[test]
    fn lookbacks_are_halved_while_they_have_enough_rows() {
        let found = recipes(&Search::for_lookbacks(), Some("at"), 10);
        let hours = |span: Option<Duration>| span.map(|span| span.as_secs() / 3600);
        let tried: Vec<_> =
            found.iter().map(|recipe| (hours(recipe.lookback), hours(recipe.weights.half_life))).collect();
        let lookbacks = [None, Some(2000), Some(1000), Some(500)].map(|lookback| (lookback, None));
        assert_eq!(tried, [&lookbacks[..], &[(None, Some(1000))]].concat());
        assert_eq!(recipes(&Search::for_lookbacks(), None, 10).len(), 1, "rows without a time have no lookback");
        assert_eq!(recipes(&Search::default(), Some("at"), 10).len(), 1);
    }

    #[test]
    fn drawn_recipes_are_valid_different_and_the_same_in_every_search() {
        let search = Search { models: true, ..Search::default() };
        let found = recipes(&search, None, 300);
        assert_eq!(found, recipes(&search, None, 300));
        for recipe in &found {
            recipe.validate().expect("valid");
            if let ModelRecipe::TabM(tabm) = &recipe.model {
                assert!(tabm.members * tabm.optimizer.batch_size <= MEMBER_ROWS, "{tabm:?}");
            }
        }
        let kinds = |kind: &str| found.iter().filter(|recipe| recipe.model.kind() == kind).count();
        assert!(kinds("linear") == 1 && kinds("mlp") > 0 && kinds("tabm") > 200);
        let different: std::collections::BTreeSet<String> =
            found.iter().map(|recipe| format!("{:?}", recipe.model)).collect();
        assert!(different.len() > 290, "{} different recipes", different.len());
    }
}
