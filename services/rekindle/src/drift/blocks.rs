//! The differences between the periods of the reference data, from a second pass over their rows.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use rekindle_dataset::BlockProfiler;
use rekindle_drift_report::DataSource;
use rekindle_statistics::{
    blocks::Variations,
    profile::{ColumnProfile, Profile},
};

use super::source::{self, Reader};
use crate::client::parse;

/// The options of a comparison by time.
#[derive(Debug, clap::Args)]
pub(crate) struct BlockArgs {
    /// Column with the time of a row: a difference is drift only if it is more than the periods of the reference differ from each other;
    /// reads the reference data twice
    #[arg(long, value_name = "COL")]
    time: Option<String>,
    /// Length of a period of the reference, such as 7d; the time that the current data span, if not given
    #[arg(long, value_name = "DURATION", value_parser = parse::span, requires = "time")]
    block: Option<Duration>,
}

impl BlockArgs {
    /// Whether the reference data are read a second time.
    pub(super) fn is_given(&self) -> bool {
        self.time.is_some()
    }

    /// How much the periods of the reference differ, by column; nothing without a time.
    pub(super) fn variations(
        &self,
        reader: Reader<'_>,
        path: &Path,
        reference: &DataSource,
        current: &Profile,
    ) -> Result<Variations> {
        let Some(time) = &self.time else { return Ok(Variations::new()) };
        let Some(ColumnProfile::Timestamp(_)) = reference.profile.column(time) else {
            bail!("--time: {} has no column {time:?} with timestamps that is compared", reference.name);
        };
        let window = self.window(time, current)?;
        let mut profiler = None;
        reader.visit(path, source::kinds(&reference.profile), |columns, batch| {
            if profiler.is_none() {
                profiler = BlockProfiler::new(columns, &reference.profile, time);
            }
            profiler.iter_mut().for_each(|profiler| profiler.add(batch));
            Ok(())
        })?;
        let Some(profiler) = profiler else { return Ok(Variations::new()) };
        Ok(profiler.finish().context("--time")?.variations(window))
    }

    /// The length of the current window, in milliseconds.
    fn window(&self, time: &str, current: &Profile) -> Result<i64> {
        if let Some(block) = self.block {
            return Ok(i64::try_from(block.as_millis()).unwrap_or(i64::MAX).max(1));
        }
        match current.column(time) {
            Some(ColumnProfile::Timestamp(times)) if times.span().is_some() => {
                let (first, last) = times.span().unwrap_or_default();
                Ok(last.saturating_sub(first).max(1))
            }
            _ => bail!("--block is required: the current data have no timestamps in the column {time:?}"),
        }
    }
}
