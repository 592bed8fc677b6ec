//! Files of rows on this machine.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rekindle_dataset::Table;
use rekindle_proto::registry::FileFormat;

/// The format that a file's name promises.
pub(crate) fn format(path: &Path) -> Result<FileFormat> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(FileFormat::Csv),
        "parquet" | "pq" => Ok(FileFormat::Parquet),
        _ => bail!("{}: the name must end with .csv or .parquet", path.display()),
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Table> {
    let format = format(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
    let table = match format {
        FileFormat::Csv => rekindle_dataset::read_csv(bytes),
        _ => rekindle_dataset::read_parquet(bytes),
    };
    table.with_context(|| path.display().to_string())
}
