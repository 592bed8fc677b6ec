//! Where the rows of requests come from: a file, or the metadata of the model.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rekindle_client::inference::ModelMetadata;

use super::inputs::{self, Column, Spec};
use crate::{client::file, reading::ReadArgs};

/// Names of files of JSON end with one of these.
const JSON: [&str; 3] = ["json", "jsonl", "ndjson"];

/// The rows to send.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RowSource {
    /// CSV, Parquet or JSON file with the rows to send, one column or member per input; JSON is an array of objects or one object per line
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Seed of the arrivals and of the generated values
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    reading: ReadArgs,
}

impl RowSource {
    /// The columns of the inputs of a model, as far as requests of `rows` rows need them: rows of the file, or generated ones.
    pub(crate) fn columns(&self, model: &ModelMetadata, rows: usize) -> Result<Vec<Column>> {
        let specs = Spec::all(model)?;
        let Some(path) = &self.data else {
            return Ok(inputs::generate(specs, rows, self.seed));
        };
        let most = rows.saturating_mul(inputs::REQUESTS);
        if path.extension().is_some_and(|extension| JSON.iter().any(|json| extension == *json)) {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            return inputs::from_json(specs, &text, most).with_context(|| path.display().to_string());
        }
        let table = file::read_for(model, path, &self.reading.options(None)?)?;
        inputs::from_table(specs, &table, most).with_context(|| path.display().to_string())
    }
}
