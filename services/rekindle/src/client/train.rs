//! `rekindle train`: a model from a dataset.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use rekindle_domain::{Architecture, Recipe, Task};
use rekindle_proto::{
    registry::{GetRunRequest, Run, RunStatus},
    time::to_wire,
    trainer::{DatasetRef, Job, SubmitJobRequest, TrainWork, job::Work},
};
use uuid::Uuid;

use super::{Global, connection::Connection, output, parse, runs};

/// How often a run is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(200);

/// What to train, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rekindle train flights --target late --ignore flight,tailnum --model flight-delay --wait
  rekindle train flights --recipe recipe.json --model flight-delay --until 2013-05-01")]
pub(crate) struct Args {
    /// The dataset
    dataset: String,
    /// Its version; the latest by default
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    version: u32,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Register the result as the next version of this model
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    model: String,
    /// The experiment that the run belongs to; by default the model's, else the dataset's name
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Look at no row at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// What is new about it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Wait for the end, showing each epoch; ends with 3 where the training does not succeed
    #[arg(long)]
    wait: bool,
}

/// How to train: flags, or a whole recipe in a file, whose values flags override.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RecipeArgs {
    /// The column to predict
    #[arg(long, value_name = "COL", required_unless_present = "recipe")]
    target: Option<String>,
    /// The recipe as JSON; flags override its values
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Columns that must not become features
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// What kind of prediction; by default the target's values decide
    #[arg(long, value_enum)]
    task: Option<TaskArg>,
    /// The family of models
    #[arg(long, value_enum)]
    architecture: Option<ArchitectureArg>,
    /// Passes over the rows at most
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Seed of weights, dropout and order
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TaskArg {
    Binary,
    Multiclass,
    Regression,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ArchitectureArg {
    Linear,
    Mlp,
}

impl RecipeArgs {
    /// The part of it that a policy's flags have.
    pub(crate) fn of(target: Option<String>, recipe: Option<PathBuf>, ignore: Vec<String>) -> Self {
        Self { target, recipe, ignore, task: None, architecture: None, epochs: None, seed: None }
    }

    /// The recipe; `base` is what flags override where no file is given.
    pub(crate) fn recipe(&self, base: Option<Recipe>) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, base, &self.target) {
            (Some(path), _, _) => {
                let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&json).with_context(|| format!("{} is no recipe", path.display()))?
            }
            (None, Some(base), _) => base,
            (None, None, Some(target)) => Recipe::for_target(target.clone()),
            (None, None, None) => bail!("--target COL is needed: the column to predict"),
        };
        if let Some(target) = &self.target {
            recipe.target.clone_from(target);
        }
        if !self.ignore.is_empty() {
            recipe.ignore.clone_from(&self.ignore);
        }
        recipe.task = self.task.map(Task::from).or(recipe.task);
        recipe.architecture = self.architecture.map(Architecture::from).unwrap_or(recipe.architecture);
        recipe.max_epochs = self.epochs.unwrap_or(recipe.max_epochs);
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        recipe.validate()?;
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

impl From<ArchitectureArg> for Architecture {
    fn from(architecture: ArchitectureArg) -> Self {
        match architecture {
            ArchitectureArg::Linear => Self::Linear,
            ArchitectureArg::Mlp => Self::default(),
        }
    }
}

/// Submits the training, and waits for it where asked to. Returns whether it ended well, as far as that is known.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let connection = global.connect()?;
    let recipe = args.recipe.recipe(None)?;
    let named = if args.model.is_empty() { args.dataset.clone() } else { args.model.clone() };
    let work = TrainWork {
        dataset: Some(DatasetRef { name: args.dataset, version: args.version }),
        recipe_json: serde_json::to_string(&recipe)?,
        train_until: args.until.map(to_wire),
        register_as: args.model,
        description: args.description,
    };
    let job = Job {
        id: Uuid::now_v7().to_string(),
        experiment: args.experiment.unwrap_or(named),
        work: Some(Work::Train(work)),
        ..Default::default()
    };
    let submitted = connection.trainer().submit_job(SubmitJobRequest { job: Some(job) }).await?.into_inner();
    let run = if args.wait {
        let bar = output::bar(recipe.max_epochs.into(), "epoch {pos}/{len} {bar:20} {elapsed} {msg}");
        let ended = wait(&connection, &submitted.run_id, &bar).await;
        bar.finish_and_clear();
        ended?
    } else {
        connection.runs().get_run(GetRunRequest { id: submitted.run_id }).await?.into_inner()
    };
    global.format().message(&run, runs::fields);
    Ok(!args.wait || run.status() == RunStatus::Finished)
}

/// Follows a run to its end. A lost run is waited for: its job is delivered again.
async fn wait(connection: &Connection, id: &str, bar: &ProgressBar) -> Result<Run> {
    let mut runs = connection.runs();
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let run = runs.get_run(GetRunRequest { id: id.to_owned() }).await?.into_inner();
        let epoch = run.metrics.iter().map(|metric| metric.step).max().unwrap_or(0);
        bar.set_position(u64::try_from(epoch).unwrap_or(0));
        bar.set_message(if run.metrics.is_empty() { runs::status(&run) } else { runs::metrics(&run) });
        match run.status() {
            RunStatus::Finished | RunStatus::Failed | RunStatus::Killed => return Ok(run),
            RunStatus::Scheduled | RunStatus::Running | RunStatus::Lost | RunStatus::Unspecified => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_what_was_there() {
        let args = RecipeArgs {
            target: None,
            recipe: None,
            ignore: vec!["id".into()],
            task: Some(TaskArg::Regression),
            architecture: Some(ArchitectureArg::Linear),
            epochs: None,
            seed: Some(7),
        };
        let base = Recipe { max_epochs: 3, ..Recipe::for_target("delay") };
        let recipe = args.recipe(Some(base)).expect("valid");
        assert_eq!((recipe.target.as_str(), recipe.max_epochs, recipe.seed), ("delay", 3, 7));
        assert_eq!((recipe.task, recipe.architecture), (Some(Task::Regression), Architecture::Linear));
        assert!(args.recipe(None).is_err(), "nothing says what to predict");
    }
}
