//! What a registration would make of its files, listed before it is committed.

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use rekindle_dataset::{IngestError, IngestOptions, Limits, Part, PlannedColumn, Preview, Section, preview, type_name};
use rekindle_domain::dataset::{Column, DatasetRegistration, DatasetVersion};
use rekindle_drift_report::{list_names, printable};

use super::{file, output};
use crate::reading;

/// Names in one sentence.
const NAMES: usize = 10;

/// Reads the files as the registry will, up to the types of their columns, and prints the notes on them: how they are read, which
/// columns differ between them, and what differs from the latest version.
///
/// # Errors
/// A file that cannot be read, or does not fit the others: nothing has been uploaded then.
pub(super) fn print(
    files: &[PathBuf],
    registration: &DatasetRegistration,
    latest: Option<&DatasetVersion>,
) -> Result<()> {
    let bar = output::bar(0, "{spinner} reading the files {elapsed}");
    bar.enable_steady_tick(Duration::from_millis(100));
    let preview = read(files, registration);
    bar.finish_and_clear();
    let Preview { columns, notes } = preview?;
    files.iter().zip(&notes).for_each(|(path, notes)| reading::print_notes(path, notes));
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let differences = between_files(&names, &columns);
    let versions = latest.map(|latest| since(latest, &columns)).unwrap_or_default();
    for note in differences.iter().chain(&versions) {
        eprintln!("note: {}", printable(note));
    }
    Ok(())
}

fn read(files: &[PathBuf], registration: &DatasetRegistration) -> Result<Preview> {
    let open = |path: &PathBuf| {
        let file = File::open(path).and_then(Section::whole);
        Ok((file.with_context(|| format!("cannot read {}", path.display()))?, file::format(path)?))
    };
    let sources = files.iter().map(open).collect::<Result<Vec<_>>>()?;
    // The registry has its own limits, and refuses what is beyond.
    let limits = Limits { rows: usize::MAX, columns: usize::MAX, bytes: usize::MAX };
    let options = IngestOptions::of(registration, limits, std::env::temp_dir());
    preview(&sources, &options).map_err(|IngestError { part, error }| match part {
        Part::Source(index) => reading::failed(&files[index], error),
        Part::TimeColumn => anyhow::Error::new(error).context("--time"),
        Part::Kinds => anyhow::Error::new(error).context("--kind"),
        Part::Schema => anyhow::Error::new(error).context("--schema"),
        Part::Reading => anyhow::Error::new(error).context("--time-format"),
        Part::Sources | Part::Scratch => anyhow::Error::new(error).context("the files do not form one dataset"),
    })
}

/// Sentences on the columns that a file lacks, and on those that are widened.
fn between_files(files: &[String], columns: &[PlannedColumn]) -> Vec<String> {
    let lacking = files.iter().enumerate().filter_map(|(index, file)| {
        let lacks = columns.iter().filter(|column| column.sources[index].is_none());
        let names: Vec<&str> = lacks.map(|column| column.name.as_str()).collect();
        (!names.is_empty())
            .then(|| format!("{file} lacks {}, missing in its rows", list_names(names.iter().copied(), NAMES)))
    });
    let widened = columns.iter().filter_map(|column| {
        let widened = files.iter().zip(&column.sources).filter_map(|(file, found)| {
            let found = found.as_ref().filter(|found| **found != column.data_type && !found.is_null())?;
            Some(format!("{} in {file}", type_name(found)))
        });
        let widened: Vec<String> = widened.collect();
        let to = type_name(&column.data_type);
        (!widened.is_empty()).then(|| format!("{:?} becomes {to}: it is {}", column.name, widened.join(", ")))
    });
    lacking.chain(widened).collect()
}

/// Sentences on what differs from a version.
fn since(latest: &DatasetVersion, columns: &[PlannedColumn]) -> Vec<String> {
    let before = |name: &str| latest.columns.iter().find(|column| column.name == name);
    let is_new = |column: &&PlannedColumn| before(&column.name).is_none();
    let new: Vec<&str> = columns.iter().filter(is_new).map(|column| column.name.as_str()).collect();
    let is_absent = |column: &&Column| columns.iter().all(|planned| planned.name != column.name);
    let absent: Vec<&str> = latest.columns.iter().filter(is_absent).map(|column| column.name.as_str()).collect();
    let version = latest.reference();
    let listed = |what: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("{what} {version}: {}", list_names(names.iter().copied(), NAMES)))
    };
    let changed = columns.iter().filter_map(|column| {
        let (was, is) = (&before(&column.name)?.data_type, type_name(&column.data_type));
        (was != is).then(|| format!("{:?} is {is}; it is {was} in {version}", column.name))
    });
    let listed = [listed("columns that are not in", &new), listed("columns that are absent, but are in", &absent)];
    listed.into_iter().flatten().chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use chrono::DateTime;
    use rekindle_domain::{
        ColumnKind, Digest,
        dataset::{ReadOptions, SourceColumns},
    };

    use super::*;

    fn registration() -> DatasetRegistration {
        DatasetRegistration {
            name: "trips".parse().expect("a name"),
            sources: Vec::new(),
            time_column: None,
            kinds: Default::default(),
            parents: Vec::new(),
            description: String::new(),
            from: None,
            until: None,
            reading: ReadOptions::default(),
            columns: SourceColumns::Any,
            schema: None,
            accept_violations: false,
        }
    }

    fn previewed(texts: &[&str]) -> Vec<PlannedColumn> {
        let files = texts.iter().map(|text| {
            let mut file = tempfile::Builder::new().suffix(".csv").tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            file
        });
        let files: Vec<_> = files.collect();
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path().to_owned()).collect();
        read(&paths, &registration()).expect("read").columns
    }

    #[test]
    fn columns_that_differ_between_files_are_told() {
        let names = ["jan.csv", "feb.csv"].map(str::to_owned);
        let columns = previewed(&["n,code,old\n1,7,x\n", "n,code,new\n0.5,A7,2\n"]);
        assert_eq!(
            between_files(&names, &columns),
            [
                "jan.csv lacks new, missing in its rows",
                "feb.csv lacks old, missing in its rows",
                "\"n\" becomes Float64: it is Int64 in jan.csv",
                "\"code\" becomes Utf8: it is Int64 in jan.csv",
            ]
        );
        assert!(between_files(&names, &previewed(&["a,b\n1,\n", "b,a\n2,3\n"])).is_empty(), "nothing is widened");
    }

    #[test]
    fn what_differs_from_the_latest_version_is_told() {
        let column = |name: &str, data_type: &str| Column {
            name: name.to_owned(),
            kind: ColumnKind::Numeric,
            data_type: data_type.to_owned(),
            nullable: false,
        };
        let latest = DatasetVersion {
            name: "trips".parse().expect("a name"),
            version: 2,
            content: Digest::of(b""),
            blob: Digest::of(b""),
            rows: 1,
            bytes: 1,
            columns: vec![column("n", "Int64"), column("gone", "Int64"), column("same", "Int64")],
            time_column: None,
            time_range: None,
            parents: Vec::new(),
            description: String::new(),
            profile: Vec::new(),
            created_at: DateTime::UNIX_EPOCH,
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        };
        let columns = previewed(&["same,n,new\n1,0.5,x\n"]);
        assert_eq!(
            since(&latest, &columns),
            [
                "columns that are not in trips/2: new",
                "columns that are absent, but are in trips/2: gone",
                "\"n\" is Float64; it is Int64 in trips/2",
            ]
        );
    }
}
