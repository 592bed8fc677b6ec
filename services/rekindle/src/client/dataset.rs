//! `rekindle dataset`: register, list, show.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use prost_types::Timestamp;
use rekindle_proto::{
    registry::{
        ColumnKind, DatasetVersion, GetVersionRequest, ListDatasetsRequest, ListVersionsRequest,
        RegisterVersionRequest, Source,
    },
    time::to_wire,
};
use uuid::Uuid;

use super::{
    Global,
    connection::Connection,
    file,
    output::{self, Fields, Format, number, short, when, word},
    page::Limit,
    parse,
    upload::upload,
};

/// What to do with datasets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload a CSV or Parquet file and make it the next version of a dataset
    #[command(after_help = "\
Examples:
  rekindle dataset register flights flights.parquet --time time_hour
  rekindle dataset register flights jan.csv feb.csv --time time_hour --kind flight=categorical
  rekindle dataset register flights flights.parquet --time time_hour --until 2013-05-01T00:00:00Z")]
    Register(Register),
    /// List datasets with their latest version, or the versions of one
    List {
        /// The dataset whose versions to list
        name: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show the columns of a version and what they hold
    Show {
        /// The dataset
        name: String,
        /// The version; the latest by default
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
}

/// What to register.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// The dataset: a-z, 0-9 and '-'
    name: String,
    /// Files, put one after the other
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The column that orders the rows in time
    #[arg(long, value_name = "COL", default_value = "", hide_default_value = true)]
    time: String,
    /// What a column means, where its values mislead: numeric, categorical, timestamp or boolean
    #[arg(long, value_name = "COL=KIND", value_parser = parse::kind)]
    kind: Vec<(String, ColumnKind)>,
    /// Keep only rows at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<chrono::DateTime<chrono::Utc>>,
    /// Keep only rows before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// Digests of what the rows came from
    #[arg(long, value_name = "DIGEST")]
    parent: Vec<String>,
    /// What it is
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Repeating a key repeats nothing: the version made first is shown again
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (connection, format) = (global.connect()?, global.format());
    match command {
        Command::Register(args) => {
            let version = register(args, &connection).await?;
            format.message(&version, summary);
        }
        Command::List { name: None, limit } => list(&connection, limit, format).await?,
        Command::List { name: Some(name), limit } => versions(&connection, name, limit, format).await?,
        Command::Show { name, version } => {
            let found = connection.datasets().get_version(GetVersionRequest { name, version }).await?.into_inner();
            show(&found, format);
        }
    }
    Ok(())
}

async fn register(args: Register, connection: &Connection) -> Result<DatasetVersion> {
    let mut sources = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let format = file::format(path)?;
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bar = output::bar(bytes.len() as u64, "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_message(path.display().to_string());
        let shown = bar.clone();
        let digest = upload(connection.artifacts(), bytes.into(), move |sent| shown.set_position(sent as u64)).await?;
        bar.finish_and_clear();
        sources.push(Source { digest: digest.to_string(), format: format.into() });
    }
    let wire = |time: Option<_>| time.map(to_wire);
    let request = RegisterVersionRequest {
        idempotency_key: args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string()),
        name: args.name,
        sources,
        time_column: args.time,
        kinds: args.kind.into_iter().map(|(column, kind)| (column, kind.into())).collect(),
        parents: args.parent,
        description: args.description,
        from: wire(args.from),
        until: wire(args.until),
    };
    let reading = output::bar(0, "{spinner} the registry reads the rows {elapsed}");
    reading.enable_steady_tick(std::time::Duration::from_millis(100));
    let registered = connection.datasets().register_version(request).await;
    reading.finish_and_clear();
    Ok(registered.context("the dataset was not registered")?.into_inner())
}

async fn list(connection: &Connection, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.datasets();
    let datasets = limit
        .fetch(async |page_size, page_token| {
            let page = client.list_datasets(ListDatasetsRequest { page_size, page_token }).await?.into_inner();
            Ok((page.datasets, page.next_page_token))
        })
        .await?;
    print(&datasets, format);
    Ok(())
}

async fn versions(connection: &Connection, name: String, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.datasets();
    let versions = limit
        .fetch(async |page_size, page_token| {
            let request = ListVersionsRequest { name: name.clone(), page_size, page_token };
            let page = client.list_versions(request).await?.into_inner();
            Ok((page.versions, page.next_page_token))
        })
        .await?;
    print(&versions, format);
    Ok(())
}

fn print(versions: &[DatasetVersion], format: Format) {
    let header = ["name", "version", "rows", "columns", "from", "until", "content", "created"];
    format.list(versions, &header, |version| {
        vec![
            version.name.clone(),
            version.version.to_string(),
            version.rows.to_string(),
            version.columns.len().to_string(),
            when(version.time_min),
            when(version.time_max),
            short(&version.content_digest),
            when(version.created_at),
        ]
    });
}

fn summary(version: &DatasetVersion) -> Fields {
    vec![
        ("dataset", format!("{} version {}", version.name, version.version)),
        ("rows", version.rows.to_string()),
        ("columns", version.columns.len().to_string()),
        ("time", range(version.time_min, version.time_max)),
        ("content", version.content_digest.clone()),
        ("blob", format!("{} ({} bytes)", version.blob_digest, version.bytes)),
        ("parents", few(&version.parents)),
        ("description", version.description.clone()),
        ("created", when(version.created_at)),
    ]
}

/// The first digests, and how many more there are: a dataset that a workflow made comes from hundreds of segments.
fn few(digests: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut told: Vec<String> = digests.iter().take(SHOWN).cloned().collect();
    if digests.len() > SHOWN {
        told.push(format!("and {} more (--json lists them)", digests.len() - SHOWN));
    }
    told.join(", ")
}

fn range(from: Option<Timestamp>, until: Option<Timestamp>) -> String {
    if from.is_none() { String::new() } else { format!("{} to {}", when(from), when(until)) }
}

fn show(version: &DatasetVersion, format: Format) {
    format.message(version, summary);
    if format == Format::Json {
        return;
    }
    output::emit("");
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    let lines = version.columns.iter().map(|column| {
        let profile = version.profile.iter().find(|profile| profile.name == column.name).cloned().unwrap_or_default();
        let time = column.kind() == ColumnKind::Timestamp;
        let top = profile.top.iter().take(3).map(|top| format!("{} ({})", top.value, top.count));
        vec![
            column.name.clone(),
            word(column.kind().as_str_name(), "COLUMN_KIND_"),
            column.data_type.clone(),
            profile.missing.to_string(),
            profile.distinct.to_string(),
            if time { String::new() } else { optional(profile.mean) },
            if time { String::new() } else { optional(profile.std) },
            top.collect::<Vec<_>>().join(", "),
        ]
    });
    output::print_table(&["column", "kind", "type", "missing", "distinct", "mean", "std", "most frequent"], lines);
}
