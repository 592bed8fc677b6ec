//! From a path to a profile.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use rekindle_dataset::{Kind, Profiler, Progress, Scan, ScanBatch, ScanColumn, ScanOptions, SkipReason};
use rekindle_statistics::profile::{ColumnProfile, Profile};

use super::{
    comparison::{Skipped, Source},
    selection::Selection,
};

/// Bytes of a file in which a profile says that it is one.
const OPENING: u64 = 4096;

/// How many different values a column of numbers is counted by, and where progress is shown.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub buckets: usize,
    pub bar: &'a ProgressBar,
}

impl Reader<'_> {
    /// What the data are held against: the columns selected, in their own kinds.
    pub(super) fn reference(self, path: &Path, selection: &Selection) -> Result<Source> {
        let name = path.display().to_string();
        if is_profile(path)? {
            return stored(path, selection);
        }
        let mut scan = self.open(path, None)?;
        let mut skipped = skipped(&scan);
        if !selection.is_all() {
            let own = scan.columns().iter().map(|column| (column.name.clone(), column.kind)).collect();
            let kinds = selection.kinds(&own, &name)?;
            skipped.extend(own.into_keys().filter(|name| !kinds.contains_key(name)).map(not_asked_for));
            scan = self.open(path, Some(kinds))?;
        }
        Ok(Source { name, profile: self.profile(path, scan)?, skipped })
    }

    /// The data, in the reference's kinds, and the names of the columns that the reference does not have.
    pub(super) fn current(self, path: &Path, reference: &Profile) -> Result<(Source, Vec<String>)> {
        if is_profile(path)? {
            let mut source = stored(path, &Selection::default())?;
            let columns = std::mem::take(&mut source.profile.columns);
            let (known, new): (Vec<_>, Vec<_>) =
                columns.into_iter().partition(|column| reference.column(&column.name).is_some());
            source.profile.columns = known;
            return Ok((source, new.into_iter().map(|column| column.name).collect()));
        }
        let scan = self.open(path, Some(kinds(reference)))?;
        let skipped = skipped(&scan);
        let unexpected = scan.skipped().iter().filter(|column| column.reason == SkipReason::Unexpected);
        let new = unexpected.map(|column| column.name.clone()).collect();
        Ok((Source { name: path.display().to_string(), profile: self.profile(path, scan)?, skipped }, new))
    }

    fn open(self, path: &Path, expected: Option<BTreeMap<String, Kind>>) -> Result<Scan> {
        self.bar.set_message(path.display().to_string());
        let start = self.bar.position();
        let size = size(path);
        let options = ScanOptions { expected, ..ScanOptions::default() };
        let scan = Scan::open(path, &options, &mut |progress| self.bar.set_position(start + part(size, progress)));
        self.bar.set_position(start);
        scan.with_context(|| path.display().to_string())
    }

    /// Shows every batch of the columns named to `look`.
    ///
    /// # Errors
    /// A profile has no rows.
    pub(super) fn visit(
        self,
        path: &Path,
        kinds: BTreeMap<String, Kind>,
        mut look: impl FnMut(&[ScanColumn], &ScanBatch) -> Result<()>,
    ) -> Result<()> {
        ensure!(!is_profile(path)?, "{} is a profile: its rows are gone, and they are needed", path.display());
        let scan = self.open(path, Some(kinds))?;
        let columns = scan.columns().to_vec();
        self.each(path, scan, |batch| look(&columns, batch))
    }

    fn profile(self, path: &Path, scan: Scan) -> Result<Profile> {
        let mut profiler = Profiler::with_buckets(scan.columns(), self.buckets);
        self.each(path, scan, |batch| {
            profiler.add(batch);
            Ok(())
        })?;
        Ok(profiler.finish())
    }

    fn each(self, path: &Path, mut scan: Scan, mut look: impl FnMut(&ScanBatch) -> Result<()>) -> Result<()> {
        let start = self.bar.position();
        let size = size(path);
        while let Some(batch) = scan.next() {
            look(&batch.with_context(|| path.display().to_string())?)?;
            self.bar.set_position(start + part(size, scan.progress()));
        }
        self.bar.set_position(start + size);
        Ok(())
    }
}

/// Whether a file says that it is a profile. A pipe does not: what is read of it is gone.
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

fn stored(path: &Path, selection: &Selection) -> Result<Source> {
    let name = path.display().to_string();
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let mut profile = Profile::from_bytes(&bytes).with_context(|| {
        format!("{name} is no profile that this version reads; make one with `rekindle profile FILE -o {name}`")
    })?;
    let own = kinds(&profile);
    let kinds = selection.kinds(&own, &name)?;
    if let Some((column, _)) = kinds.iter().find(|(column, kind)| own.get(*column) != Some(kind)) {
        bail!(
            "--categorical: the profile {name} has {column:?} as numbers; make it anew with `rekindle profile FILE --categorical {column}`"
        );
    }
    profile.columns.retain(|column| kinds.contains_key(&column.name));
    let skipped = own.into_keys().filter(|name| !kinds.contains_key(name)).map(not_asked_for).collect();
    Ok(Source { name, profile, skipped })
}

/// The kinds of a profile's columns by name.
pub(super) fn kinds(profile: &Profile) -> BTreeMap<String, Kind> {
    profile.columns.iter().map(|column| (column.name.clone(), kind(&column.profile))).collect()
}

fn kind(profile: &ColumnProfile) -> Kind {
    match profile {
        ColumnProfile::Numeric(_) => Kind::Numeric,
        ColumnProfile::Categorical(_) => Kind::Categorical,
        ColumnProfile::Boolean(_) => Kind::Boolean,
        ColumnProfile::Timestamp(_) => Kind::Timestamp,
    }
}

/// The columns of a type that has no kind.
fn skipped(scan: &Scan) -> Vec<Skipped> {
    let unsupported = scan.skipped().iter().filter(|column| column.reason != SkipReason::Unexpected);
    unsupported.map(|column| Skipped { name: column.name.clone(), reason: column.reason.to_string() }).collect()
}

fn not_asked_for(name: String) -> Skipped {
    Skipped { name, reason: "it was not asked for".to_owned() }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The part of a file's bytes that stands for how far it was read.
fn part(size: u64, progress: Progress) -> u64 {
    match progress.total {
        0 => 0,
        total => (size as f64 * (progress.done as f64 / total as f64).min(1.0)) as u64,
    }
}
