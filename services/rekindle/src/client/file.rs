//! Local files of rows.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rekindle_dataset::Table;
use rekindle_domain::dataset::FileFormat;

/// The format of a file, by the extension of its name.
pub(crate) fn format(path: &Path) -> Result<FileFormat> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(FileFormat::Csv),
        "parquet" | "pq" => Ok(FileFormat::Parquet),
        _ => bail!("{}: unknown file format: expected a name that ends with .csv, .parquet or .pq", path.display()),
    }
}

/// Reads a file into memory.
pub(crate) fn read(path: &Path) -> Result<Table> {
    let format = format(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
    let table = match format {
        FileFormat::Csv => rekindle_dataset::read_csv(bytes),
        FileFormat::Parquet => rekindle_dataset::read_parquet(bytes),
    };
    table.with_context(|| path.display().to_string())
}
