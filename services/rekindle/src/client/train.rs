//! `rekindle train`.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rekindle_client::{Registry, wire};
use rekindle_domain::{
    DatasetName, ExperimentName, ModelName, Recipe, RunId, Search, Task,
    dataset::{ColumnRole, DatasetSchema, DatasetVersion},
    job::{DatasetRef, Job, Priority, Train, Work},
    recipe::{CnnRecipe, ImageShape, LinearRecipe, MlpRecipe, ModelRecipe, RowWeights, TabMRecipe},
    run::{Run, RunProgress, RunStatus},
    validation::Violations,
};
use uuid::Uuid;

use super::{
    Global, external::ExternalArgs, flag, output, parse, platform::Platform, runs, search::SearchArgs, suspects,
};

/// Interval between two reads of a run in progress.
const POLL: Duration = Duration::from_millis(200);

/// A training.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rekindle train flights --target late --ignore flight,tailnum --model flight-delay --wait
  rekindle train flights --target late --ignore flight,tailnum --model flight-delay --auto --budget 10m --wait
  rekindle train flights --recipe recipe.json --model flight-delay --until 2013-05-01")]
pub(crate) struct Args {
    /// Dataset name
    dataset: DatasetName,
    /// Dataset version; the latest by default
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    version: Option<u32>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Search for the best recipe: short for --search lookbacks,models
    #[arg(long, conflicts_with_all = ["search", "pool"])]
    auto: bool,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    external: ExternalArgs,
    /// Register the result as the next version of this model
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,
    /// Experiment of the run; by default the name of the model, else of the dataset
    #[arg(long, value_name = "NAME")]
    experiment: Option<ExperimentName>,
    /// Exclude rows at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// Description of the model version
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Time since its start after which the run fails
    #[arg(long, value_name = "D", value_parser = parse::span)]
    time_limit: Option<Duration>,
    /// Which jobs it waits for
    #[arg(long, value_enum, value_name = "PRIORITY", default_value_t)]
    priority: PriorityArg,
    /// Wait until the run has ended; exit with code 3 if it does not succeed
    #[arg(long)]
    wait: bool,
}

/// Which jobs a training waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PriorityArg {
    /// Those that were submitted before
    #[default]
    Normal,
    /// Only those of high priority, as the trainings of workflows
    High,
}

impl From<PriorityArg> for Priority {
    fn from(priority: PriorityArg) -> Self {
        match priority {
            PriorityArg::Normal => Self::Normal,
            PriorityArg::High => Self::High,
        }
    }
}

/// The recipe: flags, or a file whose values flags override.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RecipeArgs {
    /// Column to predict; by default the one that the schema of the dataset declares
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Recipe as JSON; flags override its values
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Columns to exclude from the features, beside entity keys and weights that the schema of the dataset declares
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Task; inferred from the values of the target by default
    #[arg(long, value_enum)]
    task: Option<TaskArg>,
    /// Kind of model
    #[arg(long, value_enum)]
    architecture: Option<ArchitectureArg>,
    /// Image whose values the features are, such as 28x28 or 32x32x3: its rows of pixels, the pixels of a row, and the values of a pixel
    #[arg(long, value_name = "SHAPE")]
    image: Option<ImageShape>,
    /// Train only on rows of this time before the latest training row
    #[arg(long, value_name = "D", value_parser = parse::span)]
    lookback: Option<Duration>,
    /// Column of weights of the training rows; by default the one that the schema of the dataset declares
    #[arg(long, value_name = "COL")]
    weight: Option<String>,
    /// Whether all classes count the same in the training, however many rows each has
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    balanced: Option<bool>,
    /// Time after which a training row counts half as much as the latest one
    #[arg(long, value_name = "D", value_parser = parse::span)]
    half_life: Option<Duration>,
    /// Maximum number of passes over the training rows
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    epochs: Option<u32>,
    /// Seed of the initial weights, of dropout and of the order of rows
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    seed: Option<u64>,
}

/// A task.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum TaskArg {
    /// One of two classes
    Binary,
    /// One of several classes
    Multiclass,
    /// A number
    Regression,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ArchitectureArg {
    /// Logistic, softmax or linear regression
    Linear,
    /// Multi-layer perceptron
    Mlp,
    /// Ensemble of multi-layer perceptrons that share their hidden layers
    #[value(name = "tabm")]
    TabM,
    /// Convolutional network for images; requires --image
    Cnn,
}

impl RecipeArgs {
    /// The recipe flags of a policy.
    pub(crate) fn of(target: Option<String>, recipe: Option<PathBuf>, ignore: Vec<String>) -> Self {
        Self { target, recipe, ignore, ..Self::default() }
    }

    /// The same with what the schema of the dataset declares: the target, if none was given, and columns to ignore. A file is taken as it
    /// is.
    fn declared(mut self, schema: Option<&DatasetSchema>) -> Self {
        let Some(schema) = schema.filter(|_| self.recipe.is_none()) else { return self };
        if self.target.is_none() {
            self.target = schema.with_role(ColumnRole::Target).next().map(str::to_owned);
        }
        if self.weight.is_none() {
            let is_free =
                |name: &&str| self.target.as_deref() != Some(*name) && !self.ignore.iter().any(|one| one == name);
            self.weight = schema.with_role(ColumnRole::Weight).find(is_free).map(str::to_owned);
        }
        let weights = schema.with_role(ColumnRole::Weight).filter(|name| self.weight.as_deref() != Some(*name));
        let others = schema.with_role(ColumnRole::EntityKey).chain(weights);
        let is_new =
            |name: &&str| !self.ignore.iter().any(|given| given == name) && self.target.as_deref() != Some(*name);
        let others: Vec<String> = others.filter(is_new).map(str::to_owned).collect();
        self.ignore.extend(others);
        self
    }

    /// The recipe before its bounds are checked. Without a file, flags override `base`.
    pub(crate) fn recipe(&self, base: Option<Recipe>) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, base, &self.target) {
            (Some(path), _, _) => {
                let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&json).with_context(|| format!("invalid recipe in {}", path.display()))?
            }
            (None, Some(base), _) => base,
            (None, None, Some(target)) => Recipe::for_target(target.clone()),
            (None, None, None) => {
                let problem = "is missing: specify the column to predict, or declare it with the role target";
                return Err(Violations::of("--target", problem).into());
            }
        };
        if let Some(target) = &self.target {
            recipe.target.clone_from(target);
        }
        if !self.ignore.is_empty() {
            recipe.ignore = self.ignore.iter().filter(|name| !name.is_empty()).cloned().collect();
        }
        recipe.task = self.task.map(Task::from).or(recipe.task);
        if let Some(architecture) = self.architecture {
            recipe.model = architecture.applied_to(recipe.model, self.image)?;
        }
        if let Some(image) = self.image {
            let ModelRecipe::Cnn(cnn) = &mut recipe.model else {
                let problem = format!("is for --architecture cnn, and the model is {}", recipe.model.kind());
                return Err(Violations::of("--image", problem).into());
            };
            cnn.image = image;
        }
        recipe.lookback = self.lookback.or(recipe.lookback);
        recipe.weights = RowWeights {
            column: self.weight.clone().or(recipe.weights.column),
            balanced: self.balanced.unwrap_or(recipe.weights.balanced),
            half_life: self.half_life.or(recipe.weights.half_life),
        };
        if let Some(epochs) = self.epochs {
            recipe.model.optimizer_mut().max_epochs = epochs;
        }
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        Ok(recipe)
    }
}

impl From<TaskArg> for Task {
    fn from(task: TaskArg) -> Self {
        match task {
            TaskArg::Binary => Self::Binary,
            TaskArg::Multiclass => Self::Multiclass,
            TaskArg::Regression => Self::Regression,
        }
    }
}

impl ArchitectureArg {
    /// A model of this kind; one of another kind gives it its optimizer.
    fn applied_to(self, model: ModelRecipe, image: Option<ImageShape>) -> Result<ModelRecipe> {
        let optimizer = model.optimizer().clone();
        Ok(match (self, model) {
            (Self::Linear, model @ ModelRecipe::Linear(_))
            | (Self::Mlp, model @ ModelRecipe::Mlp(_))
            | (Self::TabM, model @ ModelRecipe::TabM(_))
            | (Self::Cnn, model @ ModelRecipe::Cnn(_)) => model,
            (Self::Linear, _) => ModelRecipe::Linear(LinearRecipe { optimizer }),
            (Self::Mlp, _) => ModelRecipe::Mlp(MlpRecipe { optimizer, ..MlpRecipe::default() }),
            (Self::TabM, _) => ModelRecipe::TabM(TabMRecipe { optimizer, ..TabMRecipe::default() }),
            (Self::Cnn, _) => {
                let problem = "is missing: specify the shape of the images, such as 28x28";
                let image = image.ok_or_else(|| Violations::of("--image", problem))?;
                ModelRecipe::Cnn(CnnRecipe { optimizer, ..CnnRecipe::for_image(image) })
            }
        })
    }
}

/// Submits the training. Returns whether it succeeded; without `--wait`, whether it was submitted.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let dataset = platform.registry().dataset(&args.dataset, args.version).await?;
    let recipe = args.recipe.declared(dataset.schema.as_ref()).recipe(None)?;
    recipe.validate().map_err(flag::violations)?;
    let mut search = if args.auto { Search::for_everything() } else { Search::default() };
    args.search.change(&mut search)?;
    search.validate().map_err(flag::violations)?;
    let named = args.model.as_ref().map_or(args.dataset.as_str(), ModelName::as_str);
    let job = Job {
        id: RunId::new(Uuid::now_v7()),
        experiment: args.experiment.map_or_else(|| named.parse(), Ok)?,
        correlation_id: String::new(),
        tags: std::collections::BTreeMap::new(),
        priority: args.priority.into(),
        dataset: DatasetRef { name: args.dataset, version: Some(dataset.version) },
        work: Work::Train(Train {
            recipe: recipe.clone(),
            search,
            until: args.until,
            register_as: args.model,
            description: args.description,
            time_limit: args.time_limit,
            external: args.external.given()?.map(Box::new),
        }),
    };
    let id = platform.trainer().submit(&job).await?;
    let registry = platform.registry();
    if let Err(error) = warn(&dataset, &recipe, &registry).await {
        tracing::debug!(%error, "the columns are not judged");
    }
    let run = if args.wait {
        let epochs = recipe.model.optimizer().max_epochs;
        let bar = output::bar(epochs.into(), "{bar:20} {elapsed} {msg}");
        let ended = tokio::select! {
            ended = wait(&registry, id, &bar) => ended,
            _ = tokio::signal::ctrl_c() => Err(interrupted(&bar, id, &platform).await),
        };
        bar.finish_and_clear();
        ended?
    } else {
        registry.run(id).await?
    };
    global.format().one(&run, wire::run::to_json, runs::fields);
    Ok(!args.wait || run.status == RunStatus::Finished)
}

/// Asks whether the training is to be cancelled, if there is somebody to ask. It continues otherwise.
async fn interrupted(bar: &ProgressBar, id: RunId, platform: &Platform) -> anyhow::Error {
    bar.finish_and_clear();
    let continues =
        || anyhow::anyhow!("no longer waiting for run {id}, which continues: `rekindle runs cancel {id}` ends it");
    if !std::io::stdin().is_terminal() {
        return continues();
    }
    let ask = move || {
        eprint!("Cancel run {id}? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
    };
    match tokio::task::spawn_blocking(ask).await {
        Ok(true) => match platform.trainer().cancel(id, "interrupted by the caller").await {
            Ok(()) => anyhow::anyhow!("run {id} is cancelled"),
            Err(error) => anyhow::Error::new(error).context(format!("run {id} is not cancelled")),
        },
        _ => continues(),
    }
}

/// Prints a warning for each suspect column. The training continues.
async fn warn(dataset: &DatasetVersion, recipe: &Recipe, registry: &Registry) -> Result<()> {
    let rows = suspects::first_rows(dataset, registry).await?;
    if rows.is_none() {
        eprintln!("note: {} is too large to be searched for columns that give the target away", dataset.reference());
    }
    for warning in suspects::warnings(dataset, rows.as_ref(), recipe) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// Waits until a run has ended. A lost run has not ended: its job is redelivered.
pub(crate) async fn wait(registry: &Registry, id: RunId, bar: &ProgressBar) -> Result<Run> {
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let run = registry.run(id).await?;
        if run.status.is_terminal() {
            return Ok(run);
        }
        if let Some(RunProgress { completed, total, .. }) = run.progress {
            bar.set_length(total);
            bar.set_position(completed);
        }
        let parts = [run.progress.as_ref().map_or_else(|| runs::status(&run), runs::progress)];
        bar.set_message(parts.into_iter().chain(runs::metrics(&run)).collect::<Vec<_>>().join(", "));
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{dataset::ColumnSchema, recipe::Optimizer};

    use super::*;

    #[test]
    fn flags_override_the_base() {
        let args = RecipeArgs {
            task: Some(TaskArg::Regression),
            architecture: Some(ArchitectureArg::Linear),
            seed: Some(7),
            ..RecipeArgs::of(None, None, vec!["id".into()])
        };
        let optimizer = Optimizer { max_epochs: 3, ..Optimizer::default() };
        let model = ModelRecipe::Mlp(MlpRecipe { optimizer: optimizer.clone(), ..MlpRecipe::default() });
        let recipe = args.recipe(Some(Recipe { model, ..Recipe::for_target("delay") })).expect("valid");
        assert_eq!((recipe.target.as_str(), recipe.seed, recipe.task), ("delay", 7, Some(Task::Regression)));
        assert_eq!(recipe.model, ModelRecipe::Linear(LinearRecipe { optimizer }));
        assert!(args.recipe(None).is_err(), "no target");
    }

    #[test]
    fn a_schema_gives_what_flags_do_not() {
        let column = |name: &str, role| ColumnSchema { name: name.into(), role: Some(role), ..ColumnSchema::default() };
        let schema = DatasetSchema {
            columns: vec![
                column("fare", ColumnRole::Target),
                column("driver", ColumnRole::EntityKey),
                column("share", ColumnRole::Weight),
                column("distance", ColumnRole::Feature),
            ],
            ..DatasetSchema::default()
        };
        let declared = RecipeArgs::of(None, None, vec![]).declared(Some(&schema)).recipe(None).expect("a target");
        assert_eq!((declared.target.as_str(), declared.ignore.join(",").as_str()), ("fare", "driver"));
        assert_eq!(declared.weights.column.as_deref(), Some("share"));
        let given = RecipeArgs::of(Some("tip".into()), None, vec!["id".into()]);
        let given = given.declared(Some(&schema)).recipe(None).expect("a target");
        assert_eq!((given.target.as_str(), given.ignore.join(",").as_str()), ("tip", "id,driver"));
        let other = RecipeArgs { weight: Some("trips".into()), ..RecipeArgs::of(None, None, vec![]) };
        let other = other.declared(Some(&schema)).recipe(None).expect("a target");
        assert_eq!(other.ignore.join(","), "driver,share", "a weight is no feature");
        let key = RecipeArgs::of(Some("driver".into()), None, vec![]).declared(Some(&schema)).recipe(None);
        assert!(key.expect("a target").ignore.is_empty());
        assert!(RecipeArgs::of(None, None, vec![]).declared(None).recipe(None).is_err());
    }
}
