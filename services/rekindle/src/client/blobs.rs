//! `rekindle blobs`: deletes what nothing refers to, and checks what is stored.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use rekindle_client::{PageRequest, wire::blob};
use rekindle_domain::blob::Scrubbed;

use super::{Global, parse};

/// Commands for the object store.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Delete blobs that nothing refers to
    #[command(after_help = "\
What datasets, model versions, runs, logged models, reviews and dead letters refer to is kept, also if these are deleted.

Examples:
  rekindle blobs gc --dry-run
  rekindle blobs gc --grace 7d")]
    Gc {
        /// Count them, and delete nothing
        #[arg(long)]
        dry_run: bool,
        /// Keep blobs that were stored within this time, at least 1h; 30d by default
        #[arg(long, value_name = "SPAN", value_parser = parse::span)]
        grace: Option<Duration>,
    },
    /// Read every blob and compare it with its digest; exit with code 3 if one does not match. It is moved to quarantine/
    Scrub,
}

/// Whether every blob matches; of a collection, true.
pub(crate) async fn run(command: Command, global: &Global) -> Result<bool> {
    let (registry, format) = (global.platform()?.registry(), global.format());
    match command {
        Command::Gc { dry_run, grace } => {
            let found = registry.collect_garbage(dry_run, grace).await?;
            format.one(&found, blob::garbage_to_json, |found| {
                vec![
                    ("blobs", format!("{} with {} bytes", found.blobs, found.bytes)),
                    ("referenced", found.referenced.to_string()),
                    ("recent", found.recent.to_string()),
                    (
                        if dry_run { "would be deleted" } else { "deleted" },
                        format!("{} with {} bytes", found.deleted, found.deleted_bytes),
                    ),
                ]
            });
            Ok(true)
        }
        Command::Scrub => {
            let (mut all, mut token) = (Scrubbed::default(), String::new());
            loop {
                let (found, next) = registry.scrub(PageRequest { size: 200, token }).await?;
                all.blobs += found.blobs;
                all.bytes += found.bytes;
                all.corrupt.extend(found.corrupt);
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            format.one(&all, blob::scrubbed_to_json, |found| {
                let corrupt = found.corrupt.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let corrupt =
                    if corrupt.is_empty() { "none".to_owned() } else { format!("{corrupt} (in quarantine/)") };
                vec![("read", format!("{} blobs with {} bytes", found.blobs, found.bytes)), ("corrupt", corrupt)]
            });
            Ok(all.corrupt.is_empty())
        }
    }
}
