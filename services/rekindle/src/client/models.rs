//! `rekindle models` and `rekindle promote`.

mod import;

use anyhow::Result;
use clap::Subcommand;
use rekindle_client::{
    registry::ReviewRequest,
    wire::{alias, model_version},
};
use rekindle_domain::{
    Alias, AliasName, ModelName,
    alias::AliasMove,
    model_version::{Approval, ModelVersion, RegisteredModel, VersionSelector},
};

use super::{
    Global,
    output::{Fields, Format, main_numbers, numbers, optional, when, words},
    page::Limit,
    parse,
    reason::Reason,
};

/// Commands for models.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List models with their latest version and their aliases
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a version: its bundle, run, metrics and review
    Show {
        /// Model name
        model: ModelName,
        /// Version number, or an alias such as champion; the latest version by default
        #[arg(value_parser = parse::version)]
        version: Option<VersionSelector>,
    },
    /// List the versions of a model, newest first
    Versions {
        /// Model name
        model: ModelName,
        #[command(flatten)]
        limit: Limit,
    },
    /// List the moves of an alias, newest first
    History {
        /// Model name
        model: ModelName,
        /// Alias
        #[arg(long, value_name = "NAME", default_value = "champion")]
        alias: AliasName,
        #[command(flatten)]
        limit: Limit,
    },
    /// Register a model in the ONNX format as the next version of a model
    Import(Box<import::Import>),
    /// Approve a version for serving
    Approve(Review),
    /// Reject a version, so that it cannot be served
    Reject(Review),
}

/// A review.
#[derive(Debug, clap::Args)]
pub(crate) struct Review {
    /// Model name
    model: ModelName,
    /// Version
    #[arg(value_parser = parse::whole::<u32>)]
    version: u32,
    #[command(flatten)]
    reason: Reason,
}

/// A promotion.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Promoting moves the alias. `rekindle deploy` then rolls the version out.

Example:
  rekindle promote flight-delay 3 --why 'lower log loss in May'")]
pub(crate) struct Promote {
    /// Model name
    model: ModelName,
    /// Version that the alias points at afterwards
    #[arg(value_parser = parse::whole::<u32>)]
    version: u32,
    /// Alias
    #[arg(long, value_name = "NAME", default_value = "champion")]
    alias: AliasName,
    /// Expected revision of the alias; the command fails if it differs (0: the alias must not exist)
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    expected_revision: Option<u64>,
    #[command(flatten)]
    reason: Reason,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let format = global.format();
    match command {
        Command::List { limit } => {
            let registry = global.platform()?.registry();
            list(&limit.fetch(async |page| registry.models(page).await).await?, format);
        }
        Command::Show { model, version } => {
            let selector = version.unwrap_or(VersionSelector::Latest);
            let found = global.platform()?.registry().model_version(&model, &selector).await?;
            format.one(&found, model_version::to_json, fields);
        }
        Command::Versions { model, limit } => {
            let registry = global.platform()?.registry();
            versions(&limit.fetch(async |page| registry.model_versions(&model, page).await).await?, format);
        }
        Command::History { model, alias, limit } => {
            let registry = global.platform()?.registry();
            history(&limit.fetch(async |page| registry.alias_history(&model, &alias, page).await).await?, format);
        }
        Command::Import(given) => {
            let registry = global.platform()?.registry();
            format.one(&import::run(*given, &registry).await?, model_version::to_json, fields);
        }
        Command::Approve(given) => review(given, Approval::Approved, global).await?,
        Command::Reject(given) => review(given, Approval::Rejected, global).await?,
    }
    Ok(())
}

fn list(models: &[RegisteredModel], format: Format) {
    let header = ["model", "latest", "created", "aliases", "metrics"];
    format.list(models, model_version::model_to_json, &header, |RegisteredModel { latest, aliases }| {
        let aliases: Vec<_> = aliases.iter().map(|alias| format!("{} {}", alias.alias, alias.version)).collect();
        vec![
            latest.model.to_string(),
            latest.version.to_string(),
            when(latest.created_at),
            aliases.join(", "),
            main_numbers(&latest.metrics),
        ]
    });
}

fn versions(versions: &[ModelVersion], format: Format) {
    let header = ["version", "status", "review", "aliases", "bundle", "created", "metrics"];
    format.list(versions, model_version::to_json, &header, |version| {
        vec![
            version.version.to_string(),
            words(version.status.name()),
            words(version.review.approval.name()),
            version.aliases.join(", "),
            version.bundle.short(),
            when(version.created_at),
            main_numbers(&version.metrics),
        ]
    });
}

fn history(moves: &[Alias], format: Format) {
    format.list(moves, alias::to_json, &["revision", "version", "moved", "by", "why"], |alias| {
        let (by, why) = (alias.by.clone(), alias.why.clone());
        vec![alias.revision.to_string(), alias.version.to_string(), when(alias.moved_at), by, why]
    });
}

async fn review(given: Review, approval: Approval, global: &Global) -> Result<()> {
    let Review { model, version, reason } = given;
    let registry = global.platform()?.called_by(reason.by).registry();
    let present = registry.model_version(&model, &VersionSelector::Number(version)).await?;
    let request = ReviewRequest { model, version, approval, why: reason.why, expected_revision: present.revision };
    global.format().one(&registry.review(&request).await?, model_version::to_json, fields);
    Ok(())
}

/// Moves an alias. Without an expected revision, its present one is expected.
pub(crate) async fn promote(args: Promote, global: &Global) -> Result<()> {
    let Promote { model, version, alias: name, expected_revision, reason } = args;
    let registry = global.platform()?.called_by(reason.by).registry();
    let expected_revision = match expected_revision {
        Some(revision) => revision,
        None => match registry.alias(&model, &name).await {
            Ok(alias) => alias.revision,
            Err(error) if error.is_not_found() => 0,
            Err(error) => return Err(error.into()),
        },
    };
    let target = AliasMove { model, alias: name, version, expected_revision, why: reason.why };
    global.format().one(&registry.set_alias(&target).await?, alias::to_json, |moved| {
        vec![
            ("alias", format!("{} of {}", moved.alias, moved.model)),
            ("version", moved.version.to_string()),
            ("bundle", moved.bundle.to_string()),
            ("revision", moved.revision.to_string()),
        ]
    });
    Ok(())
}

fn fields(version: &ModelVersion) -> Fields {
    let review = &version.review;
    let approval = words(review.approval.name());
    let reviewed = match review.by.as_str() {
        "" => approval,
        by => format!("{approval} by {by} at {}: {}", when(review.at), review.why),
    };
    vec![
        ("model", format!("{} version {}", version.model, version.version)),
        ("status", format!("{} {}", words(version.status.name()), version.status_reason).trim_end().to_owned()),
        ("review", reviewed),
        ("aliases", version.aliases.join(", ")),
        ("bundle", version.bundle.to_string()),
        ("run", optional(version.run)),
        ("metrics", numbers(&version.metrics)),
        ("description", version.description.clone()),
        ("created", when(version.created_at)),
        ("revision", version.revision.to_string()),
    ]
}
