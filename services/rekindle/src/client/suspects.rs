//! Columns that a training is better off without: running numbers, other identifiers, and columns that give the target away. They are
//! warned of; the user decides.

use anyhow::Result;
use arrow::{
    array::RecordBatch,
    compute::{SortOptions, concat_batches, filter_record_batch, is_not_null, rank},
};
use rekindle_client::Registry;
use rekindle_dataset::{Scan, ScanOptions, Types};
use rekindle_domain::{
    ColumnKind, Recipe,
    dataset::{ColumnSummary, DatasetVersion, FileFormat},
};
use rekindle_statistics::dependence::chatterjee;

use super::upload::download;

/// Rows below which columns are not judged.
const LEAST_ROWS: u64 = 100;
/// Distinct values that a profile counts exactly ([`ColumnSummary::distinct`]).
const EXACT: u64 = 524_288;
/// Largest relative error of an estimated number of distinct values: three standard errors.
const ESTIMATE_ERROR: f64 = 0.05;
/// Share of distinct values from which on text is an identifier: at least nine of ten rows have a value that no other row has.
const MOSTLY_DISTINCT: f64 = 0.9;
/// Repeated values that integers drawn at random would have, from which on their absence is no chance: its probability is e^-20.
const REPETITIONS: f64 = 20.0;
/// Chatterjee's correlation from which on a column gives the target away: two thirds of the way from independence to a function.
const GIVEN_AWAY: f64 = 2.0 / 3.0;
/// The largest file that is downloaded to look for such columns, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Values that are compared with the target, of all columns together: 32 MB of numbers.
const MOST_VALUES: usize = 4_000_000;

/// One sentence for each suspect feature of a training, and how to exclude them all.
pub(crate) fn warnings(dataset: &DatasetVersion, rows: Option<&RecordBatch>, recipe: &Recipe) -> Vec<String> {
    let labelled = rows.and_then(|rows| Labelled::of(rows, &recipe.target));
    let features = dataset.profile.iter().filter(|column| is_feature(column, dataset, recipe));
    let suspicion = |column: &ColumnSummary| {
        identifier(column, dataset).or_else(|| labelled.as_ref()?.giveaway(&column.name, &recipe.target))
    };
    let found: Vec<(&str, String)> =
        features.filter_map(|column| Some((column.name.as_str(), suspicion(column)?))).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let suspects = found.iter().map(|(name, _)| *name);
    let names: Vec<&str> = recipe.ignore.iter().map(String::as_str).chain(suspects).collect();
    let remedy = format!("to exclude these columns: --ignore {}", names.join(","));
    found.into_iter().map(|(_, sentence)| sentence).chain([remedy]).collect()
}

fn is_feature(column: &ColumnSummary, dataset: &DatasetVersion, recipe: &Recipe) -> bool {
    let name = &column.name;
    let is_time = |kind: ColumnKind| kind == ColumnKind::Timestamp;
    let kind = dataset.columns.iter().find(|column| column.name == *name).map(|column| column.kind);
    *name != recipe.target && !recipe.ignore.contains(name) && kind.is_some_and(|kind| !is_time(kind))
}

/// Why a column identifies its rows; `None` if it does not.
fn identifier(column: &ColumnSummary, dataset: &DatasetVersion) -> Option<String> {
    let ColumnSummary { name, missing, distinct, min, max, .. } = column;
    let values = dataset.rows.saturating_sub(*missing);
    if values < LEAST_ROWS {
        return None;
    }
    let data_type = dataset.columns.iter().find(|column| column.name == *name)?.data_type.as_str();
    match (data_type, min, max) {
        ("Int64", Some(min), Some(max)) if is_unique(*distinct, values) => {
            let pairs = values as f64 * (values - 1) as f64 / 2.0;
            (pairs / (max - min + 1.0) >= REPETITIONS).then(|| {
                format!(
                    "{name} is a running number or another identifier: all {values} rows have different integers, from {min} to {max}"
                )
            })
        }
        ("Utf8", ..) if *distinct as f64 >= MOSTLY_DISTINCT * values as f64 => {
            Some(format!("{name} is an identifier or free text: {values} rows have {distinct} different values"))
        }
        _ => None,
    }
}

/// Whether no value occurs twice. The number of distinct values is an estimate beyond [`EXACT`].
fn is_unique(distinct: u64, values: u64) -> bool {
    if values <= EXACT { distinct == values } else { distinct as f64 >= (1.0 - ESTIMATE_ERROR) * values as f64 }
}

/// The rows with a target, at most as many as [`MOST_VALUES`] allows.
struct Labelled {
    rows: RecordBatch,
    /// The ranks of the target.
    targets: Vec<u32>,
}

impl Labelled {
    /// `None` if there are too few.
    fn of(rows: &RecordBatch, target: &str) -> Option<Self> {
        let rows = rows.slice(0, rows.num_rows().min(MOST_VALUES / rows.num_columns().max(1)));
        let labels = rows.column_by_name(target)?;
        let rows = filter_record_batch(&rows, &is_not_null(labels).ok()?).ok()?;
        let targets = ranks(&rows, target)?;
        (rows.num_rows() as u64 >= LEAST_ROWS).then_some(Self { rows, targets })
    }

    /// Why a column gives the target away; `None` if it does not.
    fn giveaway(&self, column: &str, target: &str) -> Option<String> {
        let correlation = self.correlation(column).filter(|correlation| *correlation >= GIVEN_AWAY)?;
        Some(format!(
            "{column} alone gives {target} away (Chatterjee's correlation {correlation:.2} of at most 1): exclude it if it is known only \
             with the outcome"
        ))
    }

    /// Chatterjee's correlation of the target given a column. A missing value is a value of its own.
    fn correlation(&self, column: &str) -> Option<f64> {
        chatterjee(&ranks(&self.rows, column)?, &self.targets, 0).ok()?
    }
}

fn ranks(rows: &RecordBatch, column: &str) -> Option<Vec<u32>> {
    rank(rows.column_by_name(column)?, Some(SortOptions::default())).ok()
}

/// The first rows of a dataset version, as many as [`MOST_VALUES`] allows; `None` if its file is too large to be downloaded for this.
pub(crate) async fn first_rows(dataset: &DatasetVersion, registry: &Registry) -> Result<Option<RecordBatch>> {
    if dataset.bytes > MOST_BYTES {
        return Ok(None);
    }
    let bytes = download(registry.clone(), dataset.blob).await?;
    let options = ScanOptions { types: Types::Canonical, ..ScanOptions::default() };
    let most = MOST_VALUES / dataset.columns.len().max(1);
    tokio::task::spawn_blocking(move || {
        let (mut batches, mut rows) = (Vec::new(), 0);
        for batch in Scan::of_bytes_in(bytes, FileFormat::Parquet, &options)? {
            let batch = batch?.rows;
            rows += batch.num_rows();
            batches.push(batch);
            if rows >= most {
                break;
            }
        }
        let Some(first) = batches.first() else { return Ok(None) };
        Ok(Some(concat_batches(&first.schema(), &batches)?))
    })
    .await?
}

#[cfg(test)]
mod tests {
    use rekindle_dataset::{Table, read_csv, summarise};
    use rekindle_domain::{Digest, dataset::Column};

    use super::*;

    fn table(columns: &[(&str, &dyn Fn(usize) -> String)]) -> Table {
        let header: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let row = |row: usize| columns.iter().map(|(_, value)| value(row)).collect::<Vec<_>>().join(",");
        let lines: Vec<String> = std::iter::once(header.join(",")).chain((0..500).map(row)).collect();
        let table = read_csv(lines.join("\n").into_bytes().into()).expect("a table");
        let times =
            header.iter().filter(|name| **name == "time").map(|name| ((*name).to_owned(), ColumnKind::Timestamp));
        table.with_kinds(&times.collect()).expect("times")
    }

    fn dataset(table: &Table) -> DatasetVersion {
        let column = |column: &rekindle_dataset::Column| Column {
            name: column.name.clone(),
            data_type: rekindle_dataset::type_name(&column.data_type).to_owned(),
            kind: column.kind,
            nullable: column.nullable,
        };
        DatasetVersion {
            name: "trips".parse().expect("a name"),
            version: 1,
            content: Digest::of(b"rows"),
            blob: Digest::of(b"file"),
            rows: table.rows() as u64,
            bytes: 1,
            columns: table.schema.columns.iter().map(column).collect(),
            time_column: Some("time".into()),
            time_range: None,
            parents: Vec::new(),
            description: String::new(),
            profile: summarise(table),
            created_at: chrono::DateTime::UNIX_EPOCH,
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        }
    }

    /// A pseudo-random number below `most`, the same for the same row and salt.
    fn draw(row: usize, salt: u64, most: u64) -> u64 {
        let digest = Digest::of(format!("{salt} {row}").as_bytes()).to_string();
        u64::from_str_radix(&digest[7..19], 16).expect("hexadecimal") % most
    }

    #[test]
    fn running_numbers_identifiers_and_columns_that_give_the_target_away_are_named() {
        let rows = table(&[
            ("time", &|row| (1_700_000_000_000 + row * 60_000).to_string()),
            ("id", &|row| (row + 1).to_string()),
            ("code", &|row| format!("c{}", draw(row, 1, 1 << 40))),
            ("fare", &|row| format!("{}.{}", draw(row, 2, 60), draw(row, 3, 10))),
            ("company", &|row| format!("company {}", draw(row, 4, 5))),
            ("tips", &|row| draw(row, 5, 200).to_string()),
            ("big_tip", &|row| u64::from(draw(row, 5, 200) > 150).to_string()),
        ]);
        let dataset = dataset(&rows);
        let recipe = Recipe { ignore: vec!["company".into()], ..Recipe::for_target("big_tip") };
        let found = warnings(&dataset, Some(&rows.batch), &recipe);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("id is a running number") && found[0].contains("from 1 to 500"), "{found:?}");
        assert!(found[1].starts_with("code is an identifier"), "{found:?}");
        assert!(found[2].starts_with("tips alone gives big_tip away"), "{found:?}");
        assert_eq!(found[3], "to exclude these columns: --ignore company,id,code,tips");
        let ignore = ["id", "code", "tips"].map(str::to_owned).into();
        let sound = Recipe { ignore, ..Recipe::for_target("big_tip") };
        assert_eq!(warnings(&dataset, Some(&rows.batch), &sound), Vec::<String>::new());
    }

    #[test]
    fn values_are_unique_within_the_error_of_an_estimate() {
        assert!(is_unique(500, 500) && !is_unique(499, 500));
        assert!(is_unique(1_970_000, 2_000_000) && !is_unique(1_800_000, 2_000_000));
    }

    #[test]
    fn a_number_or_a_category_that_determines_the_target_gives_it_away() {
        let rows = table(&[
            ("copy", &|row| (draw(row, 1, 1000) * 3 + 1).to_string()),
            ("state", &|row| format!("s{}", draw(row, 1, 1000) / 250)),
            ("noise", &|row| draw(row, 2, 1000).to_string()),
            ("price", &|row| draw(row, 1, 1000).to_string()),
            ("band", &|row| format!("band {}", [2, 0, 3, 1][(draw(row, 1, 1000) / 250) as usize])),
        ]);
        let given = |column: &str, target: &str| {
            Labelled::of(&rows.batch, target).expect("enough").giveaway(column, target).is_some()
        };
        assert!(given("copy", "price") && given("state", "band") && given("price", "band"));
        assert!(!given("noise", "price") && !given("noise", "band"));
    }
}
