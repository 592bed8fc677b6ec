//! Trains a model on the first rows of a Parquet file, and writes its scores for the others: one line per row, with a probability per class
//! or the number. `scripts/quality/compare.py` compares them with those of other libraries on the same rows.
//!
//! usage: quality FILE.parquet ROWS RECIPE.json SCORES.csv TIME_COLUMN|- SECONDS
//!
//! With SECONDS above 0, other recipes are tried for so long, as by `rekindle train --auto`.

use std::{
    cell::Cell,
    error::Error,
    fmt::Write as _,
    time::{Duration, Instant},
};

use rekindle_bundle::Model;
use rekindle_dataset::read_parquet;
use rekindle_domain::{Digest, Recipe, Search};
use rekindle_training::{Origin, Supervisor, TrainInput, Trial, search};

/// Measures the time of a search, and prints its trials.
struct Printed {
    start: Instant,
    trials: Cell<u32>,
}

impl Supervisor for Printed {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn trial(&self, trial: &Trial) {
        self.trials.set(trial.number);
        let sign = if trial.is_best { "*" } else { "" };
        eprintln!("{}{sign} {:?} {:?} {:?}", trial.number, trial.result, trial.recipe.lookback, trial.recipe.model);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, rows, recipe, out, time, seconds] = args.as_slice() else {
        return Err("usage: quality FILE.parquet ROWS RECIPE.json SCORES.csv TIME_COLUMN|- SECONDS".into());
    };
    let (table, rows) = (read_parquet(std::fs::read(file)?.into())?, rows.parse::<usize>()?);
    let recipe: Recipe = serde_json::from_slice(&std::fs::read(recipe)?)?;
    let budget = Duration::from_secs(seconds.parse()?);
    let wanted = if budget.is_zero() {
        Search { trials: 1, ..Search::default() }
    } else {
        Search { budget, trials: 1000, ..Search::for_everything() }
    };
    let origin = Origin { run_id: String::new(), dataset_digests: vec![Digest::of(b"")], code_revision: String::new() };
    let first = table.slice(0, rows);
    let time_column = Some(time.as_str()).filter(|name| *name != "-");
    let input = TrainInput { table: &first, time_column, recipe: &recipe };
    let printed = Printed { start: Instant::now(), trials: Cell::new(0) };
    let bundle = search(&input, &wanted, &origin, None, &printed)?;
    let (trained, trials) = (printed.elapsed(), printed.trials.get());
    let model = Model::from_bundle(&bundle)?;
    let (start, later) = (Instant::now(), table.slice(rows, table.rows() - rows));
    let prediction = model.score(&later.batch)?;
    let predicted = start.elapsed();
    let (width, scores) = prediction.scores();
    let mut text = String::new();
    for row in scores.chunks_exact(width) {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(text, "{}", row.join(","))?;
    }
    std::fs::write(out, text)?;
    println!(
        r#"{{"seconds": {:.2}, "trials": {trials}, "best_epoch": {}, "microseconds_per_row": {:.2}}}"#,
        trained.as_secs_f64(),
        bundle.manifest.metrics["best_epoch"],
        predicted.as_secs_f64() * 1e6 / later.rows() as f64
    );
    Ok(())
}
