//! `rekindle models` and `rekindle promote`.

use anyhow::Result;
use clap::Subcommand;
use rekindle_proto::registry::{
    Approval, GetAliasHistoryRequest, GetAliasRequest, GetModelVersionRequest, ListModelVersionsRequest,
    ListModelsRequest, ModelVersion, ReviewModelVersionRequest, SetAliasRequest, get_model_version_request::Which,
};
use tonic::Code;

use super::{
    Global,
    connection::Connection,
    output::{Fields, Format, main_numbers, numbers, short, when, word},
    page::Limit,
    reason::Reason,
};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List models with their latest version and their aliases
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one version: its bundle, run, metrics and review
    Show {
        /// The model
        model: String,
        /// A number, or an alias such as champion; the latest by default
        version: Option<String>,
    },
    /// List the versions of a model, newest first
    Versions {
        /// The model
        model: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// List where an alias has pointed, newest first
    History {
        /// The model
        model: String,
        /// The alias
        #[arg(long, value_name = "NAME", default_value = "champion")]
        alias: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Say that a version may serve
    Approve(Judged),
    /// Say that a version must not serve
    Reject(Judged),
}

/// The version that is judged.
#[derive(Debug, clap::Args)]
pub(crate) struct Judged {
    /// The model
    model: String,
    /// The version
    version: u32,
    #[command(flatten)]
    reason: Reason,
}

/// What to promote.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Promoting moves a pointer; `rekindle deploy` makes the replicas follow.

Example:
  rekindle promote flight-delay 3 --why 'lower log loss on May'")]
pub(crate) struct Promote {
    /// The model
    model: String,
    /// The version that the alias is to point at
    version: u32,
    /// The alias
    #[arg(long, value_name = "NAME", default_value = "champion")]
    alias: String,
    /// Only if the alias still has this revision (0: only if it does not exist yet)
    #[arg(long, value_name = "N")]
    expected_revision: Option<u64>,
    #[command(flatten)]
    reason: Reason,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (connection, format) = (global.connect()?, global.format());
    match command {
        Command::List { limit } => list(&connection, limit, format).await,
        Command::Show { model, version } => {
            let version = get(&connection, model, version).await?;
            format.message(&version, fields);
            Ok(())
        }
        Command::Versions { model, limit } => versions(&connection, model, limit, format).await,
        Command::History { model, alias, limit } => history(&connection, model, alias, limit, format).await,
        Command::Approve(judged) => review(&connection, judged, Approval::Approved, format).await,
        Command::Reject(judged) => review(&connection, judged, Approval::Rejected, format).await,
    }
}

/// One version by number or alias; the latest where neither is given.
pub(crate) async fn get(connection: &Connection, model: String, version: Option<String>) -> Result<ModelVersion> {
    let which = version.map(|version| match version.parse() {
        Ok(number) => Which::Version(number),
        Err(_) => Which::Alias(version),
    });
    Ok(connection.models().get_model_version(GetModelVersionRequest { model, which }).await?.into_inner())
}

async fn list(connection: &Connection, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.models();
    let models = limit
        .fetch(async |page_size, page_token| {
            let page = client.list_models(ListModelsRequest { page_size, page_token }).await?.into_inner();
            Ok((page.models, page.next_page_token))
        })
        .await?;
    format.list(&models, &["model", "latest", "created", "aliases", "metrics"], |model| {
        let aliases: Vec<_> = model.aliases.iter().map(|alias| format!("{} {}", alias.alias, alias.version)).collect();
        let latest = model.latest.clone().unwrap_or_default();
        vec![
            model.name.clone(),
            latest.version.to_string(),
            when(latest.created_at),
            aliases.join(", "),
            main_numbers(&latest.metrics),
        ]
    });
    Ok(())
}

async fn versions(connection: &Connection, model: String, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.models();
    let versions = limit
        .fetch(async |page_size, page_token| {
            let request = ListModelVersionsRequest { model: model.clone(), page_size, page_token };
            let page = client.list_model_versions(request).await?.into_inner();
            Ok((page.versions, page.next_page_token))
        })
        .await?;
    let header = ["version", "status", "review", "aliases", "bundle", "created", "metrics"];
    format.list(&versions, &header, |version| {
        vec![
            version.version.to_string(),
            status(version),
            approval(version),
            version.aliases.join(", "),
            short(&version.bundle_digest),
            when(version.created_at),
            main_numbers(&version.metrics),
        ]
    });
    Ok(())
}

async fn history(connection: &Connection, model: String, alias: String, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.models();
    let moves = limit
        .fetch(async |page_size, page_token| {
            let (model, alias) = (model.clone(), alias.clone());
            let request = GetAliasHistoryRequest { model, alias, at: None, page_size, page_token };
            let page = client.get_alias_history(request).await?.into_inner();
            Ok((page.moves, page.next_page_token))
        })
        .await?;
    format.list(&moves, &["revision", "version", "moved", "by", "why"], |alias| {
        let (by, why) = (alias.by.clone(), alias.why.clone());
        vec![alias.revision.to_string(), alias.version.to_string(), when(alias.moved_at), by, why]
    });
    Ok(())
}

async fn review(connection: &Connection, judged: Judged, approval: Approval, format: Format) -> Result<()> {
    let version = get(connection, judged.model.clone(), Some(judged.version.to_string())).await?;
    let request = ReviewModelVersionRequest {
        model: judged.model,
        version: judged.version,
        approval: approval.into(),
        by: judged.reason.by,
        why: judged.reason.why,
        expected_revision: version.revision,
    };
    let reviewed = connection.models().review_model_version(request).await?.into_inner();
    format.message(&reviewed, fields);
    Ok(())
}

/// Moves an alias; without an expected revision, from wherever it points now.
pub(crate) async fn promote(args: Promote, global: &Global) -> Result<()> {
    let mut client = global.connect()?.models();
    let expected_revision = match args.expected_revision {
        Some(revision) => revision,
        None => {
            let request = GetAliasRequest { model: args.model.clone(), alias: args.alias.clone() };
            match client.get_alias(request).await {
                Ok(alias) => alias.into_inner().revision,
                Err(status) if status.code() == Code::NotFound => 0,
                Err(status) => return Err(status.into()),
            }
        }
    };
    let request = SetAliasRequest {
        model: args.model,
        alias: args.alias,
        version: args.version,
        expected_revision,
        by: args.reason.by,
        why: args.reason.why,
    };
    let moved = client.set_alias(request).await?.into_inner();
    global.format().message(&moved, |moved| {
        vec![
            ("alias", format!("{} of {}", moved.alias, moved.model)),
            ("version", moved.version.to_string()),
            ("bundle", moved.bundle_digest.clone()),
            ("revision", moved.revision.to_string()),
        ]
    });
    Ok(())
}

fn status(version: &ModelVersion) -> String {
    word(version.status().as_str_name(), "VERSION_STATUS_")
}

fn approval(version: &ModelVersion) -> String {
    version.review.as_ref().map(|review| word(review.approval().as_str_name(), "APPROVAL_")).unwrap_or_default()
}

/// What there is to say of a version.
pub(crate) fn fields(version: &ModelVersion) -> Fields {
    let review = version.review.clone().unwrap_or_default();
    let reviewed = match review.by.as_str() {
        "" => approval(version),
        by => format!("{} by {by} at {}: {}", approval(version), when(review.at), review.why),
    };
    vec![
        ("model", format!("{} version {}", version.model, version.version)),
        ("status", format!("{} {}", status(version), version.status_reason).trim_end().to_owned()),
        ("review", reviewed),
        ("aliases", version.aliases.join(", ")),
        ("bundle", version.bundle_digest.clone()),
        ("run", version.run_id.clone()),
        ("metrics", numbers(&version.metrics)),
        ("description", version.description.clone()),
        ("created", when(version.created_at)),
        ("revision", version.revision.to_string()),
    ]
}
