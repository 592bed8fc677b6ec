//! Reads a file, or a stored profile of one, as a data source.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use rekindle_dataset::{Profiler, Progress, Scan, ScanBatch, ScanColumn, ScanOptions, check_formats};
use rekindle_domain::{ColumnKind, dataset::ReadOptions};
use rekindle_drift_report::{DataSource, SkipReason, SkippedColumn};
use rekindle_statistics::profile::{ColumnProfile, Profile};

use super::{notes, selection::Selection};
use crate::reading;

/// Bytes at the start of a file within which a profile states its format.
const OPENING: u64 = 4096;

/// The largest size of a profile, in bytes.
const LARGEST_PROFILE: u64 = 256 << 20;

/// How sources are read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// Different values that the profile of a numeric column keeps.
    pub buckets: usize,
    pub reading: &'a ReadOptions,
    pub bar: &'a ProgressBar,
}

impl Reader<'_> {
    /// The reference data: the selected columns, in their own kinds.
    pub(super) fn reference(self, path: &Path, selection: &Selection) -> Result<DataSource> {
        let name = path.display().to_string();
        if is_profile(path)? {
            return stored(path, selection);
        }
        let mut scan = self.open(path, None)?;
        check_formats(self.reading, scan.columns().iter().map(|column| column.name.as_str()))
            .map_err(|error| reading::failed(path, error))?;
        let mut skipped = skipped_by(&scan);
        let noted = scan.notes().iter().filter(|note| selection.takes(&note.column));
        let mut notes: Vec<String> = noted.map(ToString::to_string).collect();
        if !selection.is_all() {
            let own = kinds_of(&scan);
            let kinds = selection.kinds(&own, &name)?;
            skipped.extend(own.into_keys().filter(|name| !kinds.contains_key(name)).map(not_selected));
            scan = self.open(path, Some(kinds))?;
        }
        Ok(DataSource { name, profile: self.profile(path, scan, &mut notes)?, skipped, notes })
    }

    /// The kinds of the columns of a file or a profile.
    pub(super) fn kinds(self, path: &Path) -> Result<BTreeMap<String, ColumnKind>> {
        match is_profile(path)? {
            true => Ok(kinds(&stored(path, &Selection::default())?.profile)),
            false => Ok(kinds_of(&self.open(path, None)?)),
        }
    }

    /// A file in the given kinds, without its other columns.
    pub(super) fn like(self, path: &Path, kinds: BTreeMap<String, ColumnKind>) -> Result<DataSource> {
        ensure!(!is_profile(path)?, "{} is a profile, which has no rows; profile the data file", path.display());
        self.in_kinds(path, kinds)
    }

    /// The current data, in the kinds of the reference. Other columns are skipped as [`SkipReason::NotInReference`].
    pub(super) fn current(self, path: &Path, reference: &Profile) -> Result<DataSource> {
        if is_profile(path)? {
            let mut source = stored(path, &Selection::default())?;
            let columns = std::mem::take(&mut source.profile.columns);
            let (known, new): (Vec<_>, Vec<_>) =
                columns.into_iter().partition(|column| reference.column(&column.name).is_some());
            source.profile.columns = known;
            source.notes.extend(notes::of_other_kinds(&source, reference));
            source.skipped.extend(new.into_iter().map(|column| skipped(column.name, SkipReason::NotInReference)));
            return Ok(source);
        }
        self.in_kinds(path, kinds(reference))
    }

    fn in_kinds(self, path: &Path, kinds: BTreeMap<String, ColumnKind>) -> Result<DataSource> {
        let scan = self.open(path, Some(kinds))?;
        let skipped = skipped_by(&scan);
        let mut notes = Vec::new();
        let profile = self.profile(path, scan, &mut notes)?;
        Ok(DataSource { name: path.display().to_string(), profile, skipped, notes })
    }

    fn open(self, path: &Path, expected: Option<BTreeMap<String, ColumnKind>>) -> Result<Scan> {
        self.bar.set_message(path.display().to_string());
        let start = self.bar.position();
        let size = size(path);
        let options = ScanOptions { expected, reading: self.reading.clone(), ..ScanOptions::default() };
        let scan = Scan::open(path, &options, &mut |progress| self.bar.set_position(start + part(size, progress)));
        self.bar.set_position(start);
        scan.map_err(|error| reading::failed(path, error))
    }

    /// Calls `visitor` with the columns in `kinds` and every batch of them.
    ///
    /// # Errors
    /// The file is a profile, which has no rows; it cannot be read; or `visitor` fails.
    pub(super) fn visit(
        self,
        path: &Path,
        kinds: BTreeMap<String, ColumnKind>,
        mut visitor: impl FnMut(&[ScanColumn], &ScanBatch) -> Result<()>,
    ) -> Result<()> {
        ensure!(!is_profile(path)?, "{} is a profile, which has no rows; use the data file", path.display());
        let scan = self.open(path, Some(kinds))?;
        let columns = scan.columns().to_vec();
        self.each(path, scan, |batch| visitor(&columns, batch))
    }

    fn profile(self, path: &Path, scan: Scan, notes: &mut Vec<String>) -> Result<Profile> {
        let mut profiler = Profiler::with_buckets(scan.columns(), self.buckets);
        let mut examples: Vec<Option<String>> = vec![None; scan.columns().len()];
        self.each(path, scan, |batch| {
            profiler.add(batch);
            examples
                .iter_mut()
                .zip(&batch.examples)
                .for_each(|(kept, new)| *kept = kept.take().or_else(|| new.clone()));
            Ok(())
        })?;
        let profile = profiler.finish();
        notes.extend(
            profile
                .columns
                .iter()
                .zip(examples)
                .filter_map(|(column, example)| notes::of_unreadable(column, &example?)),
        );
        Ok(profile)
    }

    fn each(self, path: &Path, mut scan: Scan, mut visitor: impl FnMut(&ScanBatch) -> Result<()>) -> Result<()> {
        let start = self.bar.position();
        let size = size(path);
        while let Some(batch) = scan.next() {
            visitor(&batch.with_context(|| path.display().to_string())?)?;
            self.bar.set_position(start + part(size, scan.progress()));
        }
        self.bar.set_position(start + size);
        Ok(())
    }
}

/// Whether a file states that it is a profile. A pipe is none: bytes read from it here would be lost to the reader.
fn is_profile(path: &Path) -> Result<bool> {
    let opening = || -> std::io::Result<Vec<u8>> {
        let mut opening = Vec::new();
        if fs::metadata(path)?.is_file() {
            File::open(path)?.take(OPENING).read_to_end(&mut opening)?;
        }
        Ok(opening)
    };
    let opening = opening().with_context(|| format!("cannot read {}", path.display()))?;
    let opening = opening.trim_ascii_start();
    let names_its_format = opening.windows(16).any(|bytes| bytes == b"\"format_version\"");
    Ok(opening.starts_with(b"{") && (names_its_format || path.extension().is_some_and(|extension| extension == "json")))
}

fn stored(path: &Path, selection: &Selection) -> Result<DataSource> {
    let name = path.display().to_string();
    ensure!(
        size(path) <= LARGEST_PROFILE,
        "{name} is JSON, but too large for a profile; save the data as CSV or Parquet"
    );
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let mut profile = Profile::from_bytes(&bytes).with_context(|| {
        format!(
            "{name} is not a profile that this version reads; make one with `rekindle profile FILE -o PROFILE.json`"
        )
    })?;
    let most = ScanOptions::default().columns;
    ensure!(profile.columns.len() <= most, "the profile {name} has more than {most} columns");
    let own = kinds(&profile);
    let kinds = selection.kinds(&own, &name)?;
    if let Some((column, _)) = kinds.iter().find(|(column, kind)| own.get(*column) != Some(kind)) {
        bail!(
            "--categorical: {column:?} is numeric in the profile {name}; make a new profile with `rekindle profile FILE --categorical {column}`"
        );
    }
    profile.columns.retain(|column| kinds.contains_key(&column.name));
    let skipped = own.into_keys().filter(|name| !kinds.contains_key(name)).map(not_selected).collect();
    Ok(DataSource { name, profile, skipped, notes: Vec::new() })
}

/// The kinds in which the columns of a file are read.
fn kinds_of(scan: &Scan) -> BTreeMap<String, ColumnKind> {
    scan.columns().iter().map(|column| (column.name.clone(), column.kind)).collect()
}

/// The kinds of the columns of a profile, by name.
pub(super) fn kinds(profile: &Profile) -> BTreeMap<String, ColumnKind> {
    profile.columns.iter().map(|column| (column.name.clone(), kind(&column.profile))).collect()
}

fn kind(profile: &ColumnProfile) -> ColumnKind {
    match profile {
        ColumnProfile::Numeric(_) => ColumnKind::Numeric,
        ColumnProfile::Categorical(_) => ColumnKind::Categorical,
        ColumnProfile::Boolean(_) => ColumnKind::Boolean,
        ColumnProfile::Timestamp(_) => ColumnKind::Timestamp,
    }
}

/// The columns that a scan skips.
fn skipped_by(scan: &Scan) -> Vec<SkippedColumn> {
    let reason = |reason: &rekindle_dataset::SkipReason| match reason {
        rekindle_dataset::SkipReason::Unsupported { found } => SkipReason::UnsupportedType(found.clone()),
        rekindle_dataset::SkipReason::Unexpected => SkipReason::NotInReference,
    };
    scan.skipped().iter().map(|column| skipped(column.name.clone(), reason(&column.reason))).collect()
}

fn not_selected(name: String) -> SkippedColumn {
    skipped(name, SkipReason::NotSelected)
}

fn skipped(name: String, reason: SkipReason) -> SkippedColumn {
    SkippedColumn { name, reason }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The bytes of a file that correspond to its progress.
fn part(size: u64, progress: Progress) -> u64 {
    match progress.total {
        0 => 0,
        total => (size as f64 * (progress.done as f64 / total as f64).min(1.0)) as u64,
    }
}
