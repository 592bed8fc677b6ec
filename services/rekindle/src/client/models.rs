//! `rekindle models` and `rekindle promote`.

mod card;
mod import;

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use rekindle_client::{
    registry::ReviewRequest,
    wire::{alias, evaluation, model_version},
};
use rekindle_domain::{
    Alias, AliasName, ModelName,
    alias::{AliasMove, AliasSwap},
    model_version::{Approval, ModelVersion, RegisteredModel, Update, VersionSelector},
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
        /// Show the move that was in force at this time
        #[arg(long, value_name = "TIME", value_parser = parse::time)]
        as_of: Option<DateTime<Utc>>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Register a model in the ONNX format as the next version of a model
    Import(Box<import::Import>),
    /// Change the title, the description or the tags of a model, or of a version
    #[command(after_help = "Examples:
  rekindle models update flight-delay --title 'Delay of flights' team=risk
  rekindle models update flight-delay --version 3 --description 'trained after the schedule change' --delete draft")]
    Update {
        /// Model name
        model: ModelName,
        /// Tags to set
        #[arg(value_name = "NAME=VALUE", value_parser = parse::pair)]
        tags: Vec<(String, String)>,
        /// Version; without it, the model is changed
        #[arg(long, value_parser = parse::whole::<u32>)]
        version: Option<u32>,
        /// Name of any spelling, by which MLflow's clients find the model
        #[arg(long, conflicts_with = "version")]
        title: Option<String>,
        /// Description
        #[arg(long)]
        description: Option<String>,
        /// Tags to delete
        #[arg(long, value_name = "NAME")]
        delete: Vec<String>,
    },
    /// Print the model card of a version, or set another one
    Card(card::Card),
    /// Show the comparison with the champion that a version was approved or rejected for
    Evaluation {
        /// Model name
        model: ModelName,
        /// Version
        #[arg(value_parser = parse::whole::<u32>)]
        version: u32,
    },
    /// Delete a model, or a version of it; its files stay, and it can be restored
    Delete(Removal),
    /// Restore a deleted model, or a version of it
    Restore(Removal),
    /// List the reviews of a version, newest first
    Reviews {
        /// Model name
        model: ModelName,
        /// Version
        #[arg(value_parser = parse::whole::<u32>)]
        version: u32,
        #[command(flatten)]
        limit: Limit,
    },
    /// Exchange the versions that two aliases point at, in one step
    #[command(
        after_help = "Example:\n  rekindle models swap flight-delay champion fallback --why 'wrong predictions since noon'"
    )]
    Swap {
        /// Model name
        model: ModelName,
        /// One alias
        one: AliasName,
        /// The other alias
        other: AliasName,
        #[command(flatten)]
        reason: Reason,
    },
    /// Delete an alias; its history stays
    Unalias {
        /// Model name
        model: ModelName,
        /// Alias
        alias: AliasName,
        #[command(flatten)]
        reason: Reason,
    },
    /// Require approvals of the versions that an alias is moved to, or show how many are required
    #[command(
        after_help = "Example:\n  rekindle models protect flight-delay --approvals 2 --except-author --why 'four eyes'"
    )]
    Protect {
        /// Model name
        model: ModelName,
        /// Alias
        #[arg(long, value_name = "NAME", default_value = "champion")]
        alias: AliasName,
        /// Different principals that must have approved the version; 0: the alias is not protected. Without it, the setting is shown
        #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
        approvals: Option<u32>,
        /// The approval of the principal that registered the version does not count
        #[arg(long, requires = "approvals")]
        except_author: bool,
        #[command(flatten)]
        reason: Reason,
    },
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
    /// What the decision is based on, e.g. report=https://reports.example.com/17
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair)]
    evidence: Vec<(String, String)>,
    #[command(flatten)]
    reason: Reason,
}

/// A deletion, or its reversal.
#[derive(Debug, clap::Args)]
pub(crate) struct Removal {
    /// Model name
    model: ModelName,
    /// Version; without it, the model with all versions
    #[arg(value_parser = parse::whole::<u32>)]
    version: Option<u32>,
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
        Command::History { model, alias, as_of: Some(time), limit: _ } => {
            let in_force = global.platform()?.registry().alias_at(&model, &alias, time).await?;
            history(in_force.as_slice(), format);
        }
        Command::History { model, alias, as_of: None, limit } => {
            let registry = global.platform()?.registry();
            history(&limit.fetch(async |page| registry.alias_history(&model, &alias, page).await).await?, format);
        }
        Command::Import(given) => {
            let registry = global.platform()?.registry();
            format.one(&import::run(*given, &registry).await?, model_version::to_json, fields);
        }
        Command::Update { model, tags, version, title, description, delete } => {
            let update = Update { title, description, delete_tags: delete, tags: tags.into_iter().collect() };
            let registry = global.platform()?.registry();
            match version {
                Some(version) => {
                    let version = registry.update_version(&model, version, &update).await?;
                    format.one(&version, model_version::to_json, fields);
                }
                None => show(&registry.update_model(&model, &update).await?, format),
            }
        }
        Command::Card(given) => {
            let card = card::card(given, &global.platform()?.registry()).await?;
            format.line(&card, |card| serde_json::json!({ "card": card }), Clone::clone);
        }
        Command::Evaluation { model, version } => {
            let verdict = card::verdict(&global.platform()?.registry(), &model, version).await?;
            format.one(&verdict, evaluation::to_json, card::fields);
        }
        Command::Delete(Removal { model, version, reason }) => {
            let registry = global.platform()?.called_by(reason.by).registry();
            registry.delete_model(&model, version, &reason.why).await?;
            let what = version.map_or_else(|| model.to_string(), |version| format!("{model} version {version}"));
            let deleted = |what: &String| serde_json::json!({ "deleted": what });
            format.one(&what, deleted, |what| vec![("deleted", what.clone())]);
        }
        Command::Restore(Removal { model, version, reason }) => {
            let registry = global.platform()?.called_by(reason.by).registry();
            show(&registry.restore_model(&model, version, &reason.why).await?, format);
        }
        Command::Reviews { model, version, limit } => {
            let registry = global.platform()?.registry();
            let found = limit.fetch(async |page| registry.reviews(&model, version, page).await).await?;
            reviews(&found, format);
        }
        Command::Swap { model, one, other, reason } => {
            let registry = global.platform()?.called_by(reason.by).registry();
            let revision = async |alias: AliasName| {
                let present = registry.alias(&model, &alias).await?;
                Ok::<_, rekindle_client::Error>((alias, present.revision))
            };
            let (one, other) = (revision(one).await?, revision(other).await?);
            let swap = AliasSwap { model: model.clone(), one, other, why: reason.why };
            let (one, other) = registry.swap_aliases(&swap).await?;
            aliases(&[one, other], format);
        }
        Command::Unalias { model, alias, reason } => {
            let registry = global.platform()?.called_by(reason.by).registry();
            let present = registry.alias(&model, &alias).await?;
            aliases(&[registry.delete_alias(&model, &alias, present.revision, &reason.why).await?], format);
        }
        Command::Protect { model, alias, approvals, except_author, reason } => {
            let registry = global.platform()?.called_by(reason.by).registry();
            let protection = match approvals {
                Some(approvals) => {
                    registry.protect_alias(&model, &alias, (approvals, except_author), &reason.why).await?
                }
                None => registry.alias_protection(&model, &alias).await?,
            };
            format.one(&protection, alias::protection_to_json, |protection| {
                let author = if protection.except_author { ", the author's does not count" } else { "" };
                vec![
                    ("alias", format!("{} of {}", protection.alias, protection.model)),
                    ("approvals", format!("{}{author}", protection.approvals)),
                    ("set", format!("{} {} {}", when(protection.at), protection.by, protection.why)),
                ]
            });
        }
        Command::Approve(given) => review(given, Approval::Approved, global).await?,
        Command::Reject(given) => review(given, Approval::Rejected, global).await?,
    }
    Ok(())
}

fn list(models: &[RegisteredModel], format: Format) {
    let header = ["model", "title", "latest", "created", "aliases", "metrics"];
    format.list(models, model_version::model_to_json, &header, |model| {
        let latest = model.latest.as_ref();
        let aliases: Vec<_> = model.aliases.iter().map(|alias| format!("{} {}", alias.alias, alias.version)).collect();
        vec![
            model.name.to_string(),
            if model.title == model.name.as_str() { String::new() } else { model.title.clone() },
            optional(latest.map(|latest| latest.version)),
            when(latest.map_or(model.created_at, |latest| latest.created_at)),
            aliases.join(", "),
            latest.map(|latest| main_numbers(&latest.metrics)).unwrap_or_default(),
        ]
    });
}

/// One model.
fn show(model: &RegisteredModel, format: Format) {
    format.one(model, model_version::model_to_json, |model| {
        vec![
            ("model", model.name.to_string()),
            ("title", model.title.clone()),
            ("latest", optional(model.latest.as_ref().map(|latest| latest.version))),
            ("tags", texts(&model.tags)),
            ("description", model.description.clone()),
            ("created", when(model.created_at)),
            ("changed", when(model.updated_at)),
        ]
    });
}

fn texts(texts: &BTreeMap<String, String>) -> String {
    texts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn reviews(reviews: &[rekindle_domain::model_version::Review], format: Format) {
    format.list(reviews, model_version::review_to_json, &["reviewed", "approval", "by", "why", "evidence"], |review| {
        let (by, why) = (review.by.clone(), review.why.clone());
        vec![when(review.at), words(review.approval.name()), by, why, texts(&review.evidence)]
    });
}

/// Where aliases point.
fn aliases(aliases: &[Alias], format: Format) {
    format.list(aliases, alias::to_json, &["alias", "version", "revision", "by", "why"], |alias| {
        let (by, why) = (alias.by.clone(), alias.why.clone());
        vec![alias.alias.to_string(), version_of(alias), alias.revision.to_string(), by, why]
    });
}

fn version_of(alias: &Alias) -> String {
    if alias.deleted { format!("none (deleted; was {})", alias.version) } else { alias.version.to_string() }
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
        vec![alias.revision.to_string(), version_of(alias), when(alias.moved_at), by, why]
    });
}

async fn review(given: Review, approval: Approval, global: &Global) -> Result<()> {
    let Review { model, version, evidence, reason } = given;
    let registry = global.platform()?.called_by(reason.by).registry();
    let present = registry.model_version(&model, &VersionSelector::Number(version)).await?;
    let evidence = evidence.into_iter().collect();
    let request =
        ReviewRequest { model, version, approval, why: reason.why, expected_revision: present.revision, evidence };
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
        ("tags", texts(&version.tags)),
        ("author", version.author.clone()),
        ("description", version.description.clone()),
        ("created", when(version.created_at)),
        ("deleted", when(version.deleted_at)),
        ("revision", version.revision.to_string()),
    ]
}
