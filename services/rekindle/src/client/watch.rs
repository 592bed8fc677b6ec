//! `rekindle watch`.

use anyhow::Result;
use rekindle_client::wire;
use rekindle_domain::ModelName;

use super::{Global, output::when};

/// What to do with the monitoring of a model.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Restart the windows of a model
    #[command(after_help = "\
The watermark is forgotten, and rows captured so far enter no further window: the next rows begin the first one. Reports, outcomes and the
prediction log stay as they are. Use it after rows with wrong event times closed windows too early, and before the same span is replayed
again.")]
    Reset {
        /// Model name
        model: ModelName,
    },
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let Command::Reset { model } = command;
    let status = global.platform()?.monitor().reset_watch(&model).await?;
    global.format().one(&status, wire::prediction_log::status_to_json, |status| {
        vec![
            ("model", status.model.to_string()),
            ("watermark", when(status.watermark)),
            ("rows captured", status.predictions.to_string()),
        ]
    });
    Ok(())
}
