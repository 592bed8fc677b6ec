//! `rekindle audit`: who changed what, when and why, and whether the record of it is complete.

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum};
use rekindle_client::{audit::Service, wire::audit};
use rekindle_domain::audit::{Filter, Sealed};

use super::{
    Global,
    output::{emit, optional, print_json, print_lines, when},
    page::Limit,
    parse,
};

/// Commands for the audit trail.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List changes, newest first
    #[command(after_help = "\
Examples:
  rekindle audit list --object model-version/flight-delay
  rekindle audit list --action alias.moved --actor alice --since 2026-03-01")]
    List {
        #[command(flatten)]
        filter: Given,
        #[command(flatten)]
        limit: Limit,
    },
    /// Print all changes as JSON lines, oldest first, with the hashes that the entries are sealed by
    Export {
        #[command(flatten)]
        filter: Given,
    },
    /// Read every entry and compare it with its hash, the entry before, and the hashes on the bus; exit with code 3 if one does not match
    Verify {
        /// Service; all of them by default
        #[arg(long, value_name = "NAME")]
        service: Option<Of>,
    },
}

/// Which changes are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Given {
    /// Service; all of them by default
    #[arg(long, value_name = "NAME")]
    service: Option<Of>,
    /// Principal that made the change
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    actor: String,
    /// Action, e.g. alias.moved, or the noun of one, e.g. alias
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    action: String,
    /// Changed object, e.g. alias/flight-delay, or the beginning of one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    object: String,
    /// Changes from this time on
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    since: Option<DateTime<Utc>>,
    /// Changes before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<DateTime<Utc>>,
}

/// A service with an audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    Registry,
    Monitor,
    Orchestrator,
}

impl Of {
    /// The given service, or all.
    fn services(given: Option<Self>) -> Vec<Service> {
        match given {
            None => Service::ALL.to_vec(),
            Some(Self::Registry) => vec![Service::Registry],
            Some(Self::Monitor) => vec![Service::Monitor],
            Some(Self::Orchestrator) => vec![Service::Orchestrator],
        }
    }
}

/// Whether every entry matches; of a list, true.
pub(crate) async fn run(command: Command, global: &Global) -> Result<bool> {
    match command {
        Command::List { filter, limit } => list(filter, limit, global).await.map(|()| true),
        Command::Export { filter } => export(filter, global).await.map(|()| true),
        Command::Verify { service } => verify(service, global).await,
    }
}

impl Given {
    fn filter(self, ascending: bool) -> Filter {
        let Self { service: _, actor, action, object, since, until } = self;
        Filter { actor, action, object, since, until, ascending }
    }
}

async fn list(given: Given, limit: Limit, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let services = Of::services(given.service);
    let filter = given.filter(false);
    let mut entries: Vec<(Service, Sealed)> = Vec::new();
    for service in services {
        let trail = platform.audit(service);
        let found = limit.fetch(async |page| trail.entries(&filter, page).await).await?;
        entries.extend(found.into_iter().map(|entry| (service, entry)));
    }
    entries.sort_by_key(|(_, sealed)| std::cmp::Reverse(sealed.entry.time));
    entries.truncate(usize::try_from(limit.limit).unwrap_or(usize::MAX));
    let header = ["time", "service", "actor", "action", "object", "reason", "entry"];
    let json = |(service, sealed): &(Service, Sealed)| {
        let mut json = audit::to_json(sealed);
        json["service"] = service.name().into();
        json
    };
    global.format().list(&entries, json, &header, |(service, Sealed { entry, seal })| {
        vec![
            when(entry.time),
            service.name().to_owned(),
            entry.actor.clone(),
            entry.action.clone(),
            entry.object.clone(),
            entry.reason.clone(),
            optional(seal.as_ref().map(|seal| seal.position)),
        ]
    });
    Ok(())
}

async fn export(given: Given, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let services = Of::services(given.service);
    let filter = given.filter(true);
    for service in services {
        let (trail, mut token) = (platform.audit(service), String::new());
        loop {
            let page = trail.entries(&filter, rekindle_client::PageRequest { size: 500, token }).await?;
            for sealed in &page.items {
                let mut json = audit::to_json(sealed);
                json["service"] = service.name().into();
                emit(&json.to_string());
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

async fn verify(service: Option<Of>, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let (mut is_complete, mut answers) = (true, Vec::new());
    let mut lines = Vec::new();
    for service in Of::services(service) {
        let found = platform.audit(service).verify().await?;
        is_complete &= found.faults.is_empty();
        let verdict = match found.faults.len() {
            0 => "complete".to_owned(),
            faults => format!("{faults} do not match"),
        };
        let published = format!("published up to {}", found.published);
        lines.push(vec![service.name().to_owned(), format!("{} entries", found.entries), verdict, published]);
        for fault in &found.faults {
            lines.push(vec![String::new(), format!("entry {}", fault.position), fault.problem.clone(), String::new()]);
        }
        let mut answer = audit::verification_to_json(&found);
        answer["service"] = service.name().into();
        answers.push(answer);
    }
    if global.json {
        print_json(&serde_json::json!({ "trails": answers }));
    } else {
        print_lines(lines);
    }
    Ok(is_complete)
}
