//! Local files of rows.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rekindle_dataset::Table;
use rekindle_domain::dataset::{FileFormat, ReadOptions};

use crate::reading;

/// The format of a file, by the extension of its name.
pub(crate) fn format(path: &Path) -> Result<FileFormat> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".csv", ".csv.gz", ".csv.zst"]) {
        Ok(FileFormat::Csv)
    } else if ends(&[".parquet", ".pq"]) {
        Ok(FileFormat::Parquet)
    } else {
        bail!(
            "{}: unknown file format: expected a name that ends with .csv, .csv.gz, .csv.zst, .parquet or .pq",
            path.display()
        )
    }
}

/// Reads a file into memory, and prints the notes on it.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Table> {
    let format = format(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
    let (table, notes) =
        rekindle_dataset::read_as(bytes, format, options).map_err(|error| reading::failed(path, error))?;
    reading::print_notes(path, &notes);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_from_the_name() {
        for (name, expected) in [
            ("a.csv", Some(FileFormat::Csv)),
            ("A.CSV.GZ", Some(FileFormat::Csv)),
            ("a.b.csv.zst", Some(FileFormat::Csv)),
            ("a.parquet", Some(FileFormat::Parquet)),
            ("a.pq", Some(FileFormat::Parquet)),
            ("a.gz", None),
            ("csv", None),
        ] {
            assert_eq!(format(Path::new(name)).ok(), expected, "{name}");
        }
    }
}
