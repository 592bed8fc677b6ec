//! `rekindle dataset`: register, list, show, compare, delete.

mod diff;
mod schema;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use rekindle_client::{Registry, registry::UploadPurpose, wire::dataset};
use rekindle_domain::{
    ColumnKind, DatasetName, Digest,
    dataset::{
        Cell, ColumnSummary, DatasetRegistration, DatasetRows, DatasetSchema, DatasetVersion, Source, SourceColumns,
    },
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Global, file,
    output::{self, Fields, Format, number, when},
    page::Limit,
    parse, preview,
    reason::Reason,
    upload::upload_file,
};
use crate::reading::ReadArgs;

/// Commands for datasets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register CSV or Parquet files as the next version of a dataset
    #[command(after_help = "\
Examples:
  rekindle dataset register flights flights.parquet --time time_hour
  rekindle dataset register flights jan.csv feb.csv --time time_hour --kind flight=categorical
  rekindle dataset register flights flights.parquet --time time_hour --until 2013-05-01T00:00:00Z
  rekindle dataset register sales sales.csv.gz --separator ';' --missing NA,-999 --time day --time-format day-first

Of several files the columns of any are kept; one that a file lacks is missing in its rows. Before the version is created, notes on
standard error tell how values are read, which columns differ between the files, and what differs from the latest version.")]
    Register(Box<Register>),
    /// List datasets with their latest version, or the versions of one
    List {
        /// Dataset whose versions to list
        name: Option<DatasetName>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a version with the profile of each column
    Show {
        /// Dataset name
        name: DatasetName,
        /// Version; the latest by default
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Show rows of a version; values of sensitive columns are left out
    Head {
        /// Dataset name
        name: DatasetName,
        /// Version; the latest by default
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Rows
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rows: u32,
        /// Rows to skip
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::whole::<u64>)]
        skip: u64,
    },
    /// Compare two versions: columns, their profiles, and the number of rows
    #[command(after_help = "\
Examples:
  rekindle dataset diff flights
  rekindle dataset diff flights --base 1 --version 3
  rekindle dataset diff flights --base-name flights-2012")]
    Diff {
        /// Dataset name
        name: DatasetName,
        /// Version; the latest by default
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Version to compare with; by default the one before, or the latest of another dataset
        #[arg(long, value_name = "N")]
        base: Option<u32>,
        /// Dataset to compare with; the same by default
        #[arg(long, value_name = "NAME")]
        base_name: Option<DatasetName>,
    },
    /// Print the schema of a version as a file for `dataset register --schema`, with a line for each column
    Schema {
        /// Dataset name
        name: DatasetName,
        /// Version; the latest by default
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Delete a version, or all versions of a dataset, unless models were made of it; its rows stay, and it can be restored
    Delete(Removal),
    /// Restore a deleted version, or all versions of a dataset
    Restore(Removal),
}

/// A deletion or a restoration.
#[derive(Debug, clap::Args)]
pub(crate) struct Removal {
    /// Dataset name
    name: DatasetName,
    /// Version; all versions by default
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    version: Option<u32>,
    #[command(flatten)]
    reason: Reason,
}

/// A registration.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// Dataset name (a-z, 0-9 and '-')
    name: DatasetName,
    /// Files, concatenated in this order: .csv, .csv.gz, .csv.zst, .parquet
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Timestamp column to sort the rows by
    #[arg(long, value_name = "COL")]
    time: Option<String>,
    /// Kind of a column, if it differs from the inferred one: numeric, categorical, timestamp or boolean
    #[arg(long, value_name = "COL=KIND", value_parser = parse::kind)]
    kind: Vec<(String, ColumnKind)>,
    /// Keep only rows at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<chrono::DateTime<chrono::Utc>>,
    /// Keep only rows before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// Digests of the datasets and chunks that the rows come from
    #[arg(long, value_name = "DIGEST")]
    parent: Vec<Digest>,
    /// Description
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Idempotency key; a repeated call with the same key returns the version that the first call registered
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// YAML file that declares columns and the rules of their values; by default what the latest version has
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Register without a schema, also if the latest version has one
    #[arg(long, conflicts_with = "schema")]
    no_schema: bool,
    /// Register rows that break rules of the schema, and record the violations
    #[arg(long)]
    accept_violations: bool,
    #[command(flatten)]
    reading: ReadArgs,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (platform, format) = (global.platform()?, global.format());
    let registry = platform.registry();
    match command {
        Command::Head { name, version, rows, skip } => {
            print_rows(&registry.preview_dataset(&name, version, skip, rows).await?, format);
        }
        Command::Diff { name, version, base, base_name } => {
            let base = (base_name.as_ref(), base);
            let (base, version, changes) = registry.compare_datasets(base, (&name, version)).await?;
            match format {
                Format::Table => diff::print(&base, &version, &changes),
                Format::Json => output::print_json(&dataset::comparison_to_json(&base, &version, changes)),
            }
        }
        Command::Schema { name, version } => {
            let version = registry.dataset(&name, version).await?;
            match format {
                Format::Table => output::emit(&schema::write(&version)),
                Format::Json => output::print_json(&dataset::to_json(&version)["schema"]),
            }
        }
        Command::Delete(Removal { name, version, reason }) => {
            let registry = platform.called_by(reason.by).registry();
            changed("deleted", &name, registry.delete_dataset(&name, version, &reason.why).await?, format);
        }
        Command::Restore(Removal { name, version, reason }) => {
            let registry = platform.called_by(reason.by).registry();
            changed("restored", &name, registry.restore_dataset(&name, version, &reason.why).await?, format);
        }
        Command::Register(args) => {
            let version = register(*args, &registry).await?;
            format.one(&version, dataset::to_json, summary);
        }
        Command::List { name: None, limit } => {
            print(&limit.fetch(async |page| registry.datasets(page).await).await?, format);
        }
        Command::List { name: Some(name), limit } => {
            print(&limit.fetch(async |page| registry.dataset_versions(&name, page).await).await?, format);
        }
        Command::Show { name, version } => show(&registry.dataset(&name, version).await?, format),
    }
    Ok(())
}

async fn register(args: Register, registry: &Registry) -> Result<DatasetVersion> {
    let reading = args.reading.options(args.time.as_deref())?;
    // Before anything is read or sent.
    args.files.iter().try_for_each(|path| file::format(path).map(drop))?;
    let idempotency_key = args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let mut registration = DatasetRegistration {
        name: args.name,
        sources: Vec::new(),
        time_column: args.time,
        kinds: args.kind.into_iter().collect(),
        parents: args.parent,
        description: args.description,
        from: args.from,
        until: args.until,
        reading,
        columns: SourceColumns::Any,
        schema: args.schema.as_deref().map(schema::read).transpose()?,
        accept_violations: args.accept_violations,
    };
    let latest = latest(&registration.name, registry).await?;
    if registration.schema.is_none() && !args.no_schema {
        registration.schema = latest.as_ref().and_then(|latest| latest.schema.clone());
        if let (Some(_), Some(latest)) = (&registration.schema, &latest) {
            eprintln!("note: the schema of {} applies (--schema, --no-schema)", latest.reference());
        }
    }
    preview::print(&args.files, &registration, latest.as_ref())?;
    registration.sources = upload(registry, &args.files).await?;
    let reading = output::bar(0, "{spinner} registering the rows {elapsed}");
    reading.enable_steady_tick(std::time::Duration::from_millis(100));
    let mut registered = registry.register_dataset(&registration, idempotency_key.clone()).await;
    // Another caller's registration of the same bytes removes the upload that both share.
    if registered.as_ref().is_err_and(|error| error.reason() == "BLOB_NOT_FOUND") {
        registration.sources = upload(registry, &args.files).await?;
        registered = registry.register_dataset(&registration, idempotency_key).await;
    }
    reading.finish_and_clear();
    let registered = registered?;
    for violation in &registered.violations {
        eprintln!("note: {}: {}", violation.rule, violation.message);
    }
    Ok(registered)
}

fn changed(verb: &str, name: &DatasetName, versions: Vec<u32>, format: Format) {
    if format == Format::Json {
        return output::print_json(&json!({ "name": name, verb: versions }));
    }
    let listed = versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    output::emit(&match versions.len() {
        0 => format!("no version of {name} was {verb}"),
        1 => format!("version {listed} of {name} is {verb}"),
        _ => format!("versions {listed} of {name} are {verb}"),
    });
}

fn print_rows(rows: &DatasetRows, format: Format) {
    if format == Format::Json {
        return output::print_json(&dataset::rows_to_json(rows));
    }
    let cell = |cell: &Option<Cell>| match cell {
        None => String::new(),
        Some(Cell::Number(number)) => number.to_string(),
        Some(Cell::Integer(integer)) => integer.to_string(),
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::Boolean(boolean)) => boolean.to_string(),
        Some(Cell::Time(time)) => when(*time),
    };
    // The names as they are, which a header is not.
    let lines = rows.rows.iter().map(|row| row.iter().map(cell).collect());
    output::print_lines(std::iter::once(rows.columns.clone()).chain(lines).collect());
}

/// The latest version of a dataset, if there is one.
async fn latest(name: &DatasetName, registry: &Registry) -> Result<Option<DatasetVersion>> {
    match registry.dataset(name, None).await {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.reason() == "NOT_FOUND" => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn upload(registry: &Registry, files: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        let format = file::format(path)?;
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        let bar = output::bar(size, "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_message(path.display().to_string());
        let shown = bar.clone();
        let digest =
            upload_file(registry, UploadPurpose::DatasetSource, path, move |sent| shown.set_position(sent)).await?;
        bar.finish_and_clear();
        sources.push(Source { digest, format });
    }
    Ok(sources)
}

fn print(versions: &[DatasetVersion], format: Format) {
    let header = ["name", "version", "rows", "columns", "from", "until", "content", "created"];
    format.list(versions, dataset::to_json, &header, |version| {
        vec![
            version.name.to_string(),
            version.version.to_string(),
            version.rows.to_string(),
            version.columns.len().to_string(),
            when(version.time_range.map(|(first, _)| first)),
            when(version.time_range.map(|(_, last)| last)),
            version.content.short(),
            when(version.created_at),
        ]
    });
}

fn summary(version: &DatasetVersion) -> Fields {
    vec![
        ("dataset", format!("{} version {}", version.name, version.version)),
        ("rows", version.rows.to_string()),
        ("columns", version.columns.len().to_string()),
        ("time", version.time_range.map(range).unwrap_or_default()),
        ("content", version.content.to_string()),
        ("blob", format!("{} ({} bytes)", version.blob, version.bytes)),
        ("parents", few(&version.parents)),
        ("description", version.description.clone()),
        ("rules broken", violations(version)),
        ("created", when(version.created_at)),
        ("deleted", when(version.deleted_at)),
    ]
}

fn violations(version: &DatasetVersion) -> String {
    let lines = version.violations.iter().map(|violation| format!("{}: {}", violation.rule, violation.message));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is declared of a column: its role, unit and description.
fn declared(schema: Option<&DatasetSchema>, column: &str) -> String {
    let Some(column) = schema.and_then(|schema| schema.column(column)) else { return String::new() };
    let role = column.role.map(|role| role.name().replace('_', " ")).unwrap_or_default();
    let unit = if column.unit.is_empty() { String::new() } else { format!("in {}", column.unit) };
    let sensitive = if column.sensitive { "sensitive" } else { "" };
    let parts = [role.as_str(), unit.as_str(), sensitive, column.description.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The first digests, and the number of the others: a dataset that a workflow assembled comes from hundreds of chunks.
fn few(digests: &[Digest]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<String> = digests.iter().take(SHOWN).map(Digest::to_string).collect();
    if digests.len() > SHOWN {
        shown.push(format!("and {} more (--json lists them)", digests.len() - SHOWN));
    }
    shown.join(", ")
}

fn range((first, last): (DateTime<Utc>, DateTime<Utc>)) -> String {
    format!("{} to {}", when(first), when(last))
}

fn show(version: &DatasetVersion, format: Format) {
    format.one(version, dataset::to_json, summary);
    if format == Format::Json {
        return;
    }
    output::emit("");
    let lines = version.columns.iter().map(|column| {
        let profile = version.profile.iter().find(|profile| profile.name == column.name);
        let text = |of: &dyn Fn(&ColumnSummary) -> String| profile.map(of).unwrap_or_default();
        // A mean of milliseconds since 1970 is of no use to people.
        let moment = |value: Option<f64>| {
            if column.kind == ColumnKind::Timestamp { String::new() } else { value.map(number).unwrap_or_default() }
        };
        vec![
            column.name.clone(),
            column.kind.name().to_owned(),
            column.data_type.clone(),
            text(&|profile| profile.missing.to_string()),
            text(&|profile| profile.distinct.to_string()),
            text(&|profile| moment(profile.mean)),
            text(&|profile| moment(profile.std)),
            text(&most_frequent),
            declared(version.schema.as_ref(), &column.name),
        ]
    });
    let header = ["column", "kind", "type", "missing", "distinct", "mean", "std", "most frequent", "declared"];
    output::print_table(&header, lines);
}

fn most_frequent(profile: &ColumnSummary) -> String {
    let top = profile.top.iter().take(3).map(|top| format!("{} ({})", top.value, top.count));
    top.collect::<Vec<_>>().join(", ")
}
