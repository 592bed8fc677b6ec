//! Local files of rows.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rekindle_client::inference::{Datatype, ModelMetadata};
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
    read_with(path, options, |_| false)
}

/// Reads a file into memory for a model, and prints the notes on it. Texts of the model are text, also where all of them look like numbers.
pub(crate) fn read_for(model: &ModelMetadata, path: &Path, options: &ReadOptions) -> Result<Table> {
    let is_text =
        |name: &str| model.inputs.iter().any(|input| input.name == name && input.datatype == Datatype::Bytes.name());
    read_with(path, options, is_text)
}

fn read_with(path: &Path, options: &ReadOptions, is_text: impl Fn(&str) -> bool) -> Result<Table> {
    let format = format(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
    let (table, notes) =
        rekindle_dataset::read_as(bytes, format, options, is_text).map_err(|error| reading::failed(path, error))?;
    reading::print_notes(path, &notes);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use rekindle_client::inference::TensorMetadata;

    use super::*;

    #[test]
    fn texts_of_a_model_are_read_as_they_are_spelled() {
        let mut file = tempfile::Builder::new().suffix(".csv").tempfile().expect("a file");
        std::io::Write::write_all(&mut file, b"code,count\n7,7\n1.0,8\n").expect("written");
        let input = |name: &str, datatype: Datatype| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.name().to_owned(),
            shape: vec![-1, 1],
        };
        let model = ModelMetadata {
            name: "m".to_owned(),
            versions: Vec::new(),
            platform: String::new(),
            inputs: vec![input("code", Datatype::Bytes), input("count", Datatype::Int64)],
            outputs: Vec::new(),
        };
        let table = read_for(&model, file.path(), &ReadOptions::default()).expect("a table");
        let codes = arrow::array::AsArray::as_string::<i32>(table.column("code").expect("there"));
        assert_eq!(codes.iter().flatten().collect::<Vec<_>>(), ["7", "1.0"]);
        assert_eq!(*table.column("count").expect("there").data_type(), arrow::datatypes::DataType::Int64);
    }

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
