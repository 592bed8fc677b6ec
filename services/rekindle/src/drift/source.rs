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
    comparison::{Skipped, Source, WhySkipped},
    notes,
    selection::Selection,
};

/// Bytes of a file in which a profile says that it is one.
const OPENING: u64 = 4096;

/// Bytes that no profile has.
const LARGEST_PROFILE: u64 = 256 << 20;

/// How many different values a column of numbers is counted by, and where progress is shown.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub buckets: usize,
    pub format: &'a CsvFormat,
    pub bar: &'a ProgressBar,
}

/// How CSV files are written, where that is not told by themselves.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CsvFormat {
    /// What parts the fields of CSV files, e.g. ';'; tab for a tabulator
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = separator)]
    separator: u8,
    /// Texts that stand for a missing value in CSV files, as the empty field always does, e.g. NA,null
    #[arg(long, value_name = "TEXT,..", value_delimiter = ',')]
    missing: Vec<String>,
}

fn separator(text: &str) -> Result<u8> {
    match text.as_bytes() {
        _ if text == "tab" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => bail!("give one sign, such as ; or |, or tab"),
    }
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
        let mut notes: Vec<String> =
            scan.strays().iter().filter(|stray| selection.takes(&stray.column)).map(notes::of_stray).collect();
        if !selection.is_all() {
            let own = kinds_of(&scan);
            let kinds = selection.kinds(&own, &name)?;
            skipped.extend(own.into_keys().filter(|name| !kinds.contains_key(name)).map(deselected));
            scan = self.open(path, Some(kinds))?;
        }
        Ok(Source { name, profile: self.profile(path, scan, &mut notes)?, skipped, notes })
    }

    /// The kinds of a file's columns, or of a profile's.
    pub(super) fn kinds(self, path: &Path) -> Result<BTreeMap<String, Kind>> {
        match is_profile(path)? {
            true => Ok(kinds(&stored(path, &Selection::default())?.profile)),
            false => Ok(kinds_of(&self.open(path, None)?)),
        }
    }

    /// A file in the kinds given; its other columns are left out.
    pub(super) fn like(self, path: &Path, kinds: BTreeMap<String, Kind>) -> Result<Source> {
        ensure!(!is_profile(path)?, "{} is a profile already: its rows are gone", path.display());
        let (source, _) = self.in_kinds(path, kinds)?;
        Ok(source)
    }

    /// The data, in the reference's kinds, and the names of the columns that the reference does not have.
    pub(super) fn current(self, path: &Path, reference: &Profile) -> Result<(Source, Vec<String>)> {
        if is_profile(path)? {
            let mut source = stored(path, &Selection::default())?;
            let columns = std::mem::take(&mut source.profile.columns);
            let (known, new): (Vec<_>, Vec<_>) =
                columns.into_iter().partition(|column| reference.column(&column.name).is_some());
            source.profile.columns = known;
            source.notes.extend(notes::of_other_kinds(&source, reference));
            return Ok((source, new.into_iter().map(|column| column.name).collect()));
        }
        self.in_kinds(path, kinds(reference))
    }

    /// The columns of these kinds, and the names of all others.
    fn in_kinds(self, path: &Path, kinds: BTreeMap<String, Kind>) -> Result<(Source, Vec<String>)> {
        let scan = self.open(path, Some(kinds))?;
        let skipped = skipped(&scan);
        let unexpected = scan.skipped().iter().filter(|column| column.reason == SkipReason::Unexpected);
        let new = unexpected.map(|column| column.name.clone()).collect();
        let mut notes = Vec::new();
        let profile = self.profile(path, scan, &mut notes)?;
        Ok((Source { name: path.display().to_string(), profile, skipped, notes }, new))
    }

    fn open(self, path: &Path, expected: Option<BTreeMap<String, Kind>>) -> Result<Scan> {
        self.bar.set_message(path.display().to_string());
        let start = self.bar.position();
        let size = size(path);
        let CsvFormat { separator, missing } = self.format;
        let missing = missing.iter().cloned().collect();
        let options = ScanOptions { expected, separator: *separator, missing, ..ScanOptions::default() };
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
    ensure!(
        size(path) <= LARGEST_PROFILE,
        "{name} is no profile, but JSON too large to be one; save the data as CSV or Parquet"
    );
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let mut profile = Profile::from_bytes(&bytes).with_context(|| {
        format!("{name} is no profile that this version reads; make one with `rekindle profile FILE -o PROFILE.json`")
    })?;
    let most = ScanOptions::default().columns;
    ensure!(profile.columns.len() <= most, "the profile {name} has more than {most} columns");
    let own = kinds(&profile);
    let kinds = selection.kinds(&own, &name)?;
    if let Some((column, _)) = kinds.iter().find(|(column, kind)| own.get(*column) != Some(kind)) {
        bail!(
            "--categorical: the profile {name} has {column:?} as numbers; make it anew with `rekindle profile FILE --categorical {column}`"
        );
    }
    profile.columns.retain(|column| kinds.contains_key(&column.name));
    let skipped = own.into_keys().filter(|name| !kinds.contains_key(name)).map(deselected).collect();
    Ok(Source { name, profile, skipped, notes: Vec::new() })
}

/// The columns of a file, in the kinds that it is read in.
fn kinds_of(scan: &Scan) -> BTreeMap<String, Kind> {
    scan.columns().iter().map(|column| (column.name.clone(), column.kind)).collect()
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
    let reason = |reason: &SkipReason| match reason {
        SkipReason::Unsupported { found } => WhySkipped::Unsupported(found.clone()),
        SkipReason::Unexpected => WhySkipped::Deselected,
    };
    unsupported.map(|column| Skipped { name: column.name.clone(), reason: reason(&column.reason) }).collect()
}

fn deselected(name: String) -> Skipped {
    Skipped { name, reason: WhySkipped::Deselected }
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
