//! `rekindle train`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rekindle_client::{Registry, wire};
use rekindle_domain::{
    DatasetName, ExperimentName, ModelName, Recipe, RunId, Task,
    dataset::{ColumnRole, DatasetSchema, DatasetVersion},
    job::{DatasetRef, Job, Train, Work},
    recipe::{LinearRecipe, MlpRecipe, ModelRecipe},
    run::{Run, RunStatus},
    validation::Violations,
};
use uuid::Uuid;

use super::{Global, flag, output, parse, runs, suspects};

/// Interval between two reads of a run in progress.
const POLL: Duration = Duration::from_millis(200);

/// A training.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rekindle train flights --target late --ignore flight,tailnum --model flight-delay --wait
  rekindle train flights --recipe recipe.json --model flight-delay --until 2013-05-01")]
pub(crate) struct Args {
    /// Dataset name
    dataset: DatasetName,
    /// Dataset version; the latest by default
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    version: Option<u32>,
    #[command(flatten)]
    recipe: RecipeArgs,
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
    /// Wait until the run has ended; exit with code 3 if it does not succeed
    #[arg(long)]
    wait: bool,
}

/// The recipe: flags, or a file whose values flags override.
#[derive(Debug, Clone, clap::Args)]
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
}

impl RecipeArgs {
    /// The recipe flags of a policy.
    pub(crate) fn of(target: Option<String>, recipe: Option<PathBuf>, ignore: Vec<String>) -> Self {
        Self { target, recipe, ignore, task: None, architecture: None, epochs: None, seed: None }
    }

    /// The same with what the schema of the dataset declares: the target, if none was given, and columns to ignore. A file is taken as it is.
    fn declared(mut self, schema: Option<&DatasetSchema>) -> Self {
        let Some(schema) = schema.filter(|_| self.recipe.is_none()) else { return self };
        if self.target.is_none() {
            self.target = schema.with_role(ColumnRole::Target).next().map(str::to_owned);
        }
        let others = schema.with_role(ColumnRole::EntityKey).chain(schema.with_role(ColumnRole::Weight));
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
            recipe.model = architecture.applied_to(recipe.model);
        }
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
    fn applied_to(self, model: ModelRecipe) -> ModelRecipe {
        match (self, model) {
            (Self::Linear, ModelRecipe::Mlp(MlpRecipe { optimizer, .. })) => {
                ModelRecipe::Linear(LinearRecipe { optimizer })
            }
            (Self::Mlp, ModelRecipe::Linear(LinearRecipe { optimizer })) => {
                ModelRecipe::Mlp(MlpRecipe { optimizer, ..MlpRecipe::default() })
            }
            (Self::Linear | Self::Mlp, model) => model,
        }
    }
}

/// Submits the training. Returns whether it succeeded; without `--wait`, whether it was submitted.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let dataset = platform.registry().dataset(&args.dataset, args.version).await?;
    let recipe = args.recipe.declared(dataset.schema.as_ref()).recipe(None)?;
    recipe.validate().map_err(flag::violations)?;
    let named = args.model.as_ref().map_or(args.dataset.as_str(), ModelName::as_str);
    let job = Job {
        id: RunId::new(Uuid::now_v7()),
        experiment: args.experiment.map_or_else(|| named.parse(), Ok)?,
        correlation_id: String::new(),
        tags: std::collections::BTreeMap::new(),
        dataset: DatasetRef { name: args.dataset, version: Some(dataset.version) },
        work: Work::Train(Train {
            recipe: recipe.clone(),
            until: args.until,
            register_as: args.model,
            description: args.description,
        }),
    };
    let id = platform.trainer().submit(&job).await?;
    let registry = platform.registry();
    if let Err(error) = warn(&dataset, &recipe, &registry).await {
        tracing::debug!(%error, "the columns are not judged");
    }
    let run = if args.wait {
        let epochs = recipe.model.optimizer().max_epochs;
        let bar = output::bar(epochs.into(), "epoch {pos}/{len} {bar:20} {elapsed} {msg}");
        let ended = wait(&registry, id, &bar).await;
        bar.finish_and_clear();
        ended?
    } else {
        registry.run(id).await?
    };
    global.format().one(&run, wire::run::to_json, runs::fields);
    Ok(!args.wait || run.status == RunStatus::Finished)
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
async fn wait(registry: &Registry, id: RunId, bar: &ProgressBar) -> Result<Run> {
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let run = registry.run(id).await?;
        if run.status.is_terminal() {
            return Ok(run);
        }
        let epoch = run.metrics.iter().map(|metric| metric.step).max().unwrap_or(0);
        bar.set_position(u64::try_from(epoch).unwrap_or(0));
        bar.set_message(if run.metrics.is_empty() { runs::status(&run) } else { runs::metrics(&run).join(", ") });
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
        assert_eq!((declared.target.as_str(), declared.ignore.join(",").as_str()), ("fare", "driver,share"));
        let given = RecipeArgs::of(Some("tip".into()), None, vec!["id".into()]);
        let given = given.declared(Some(&schema)).recipe(None).expect("a target");
        assert_eq!((given.target.as_str(), given.ignore.join(",").as_str()), ("tip", "id,driver,share"));
        let key = RecipeArgs::of(Some("driver".into()), None, vec![]).declared(Some(&schema)).recipe(None);
        assert_eq!(key.expect("a target").ignore, ["share"]);
        assert!(RecipeArgs::of(None, None, vec![]).declared(None).recipe(None).is_err());
    }
}
