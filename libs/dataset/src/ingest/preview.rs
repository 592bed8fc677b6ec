use arrow::datatypes::DataType;
use rekindle_domain::dataset::FileFormat;

use super::{IngestError, IngestOptions, Section, planned};
use crate::Note;

/// What [`ingest`](super::ingest()) would make of sources, as far as that is known before their rows are written.
#[derive(Debug)]
pub struct Preview {
    /// The columns of the result, in order.
    pub columns: Vec<PlannedColumn>,
    /// What a person should know about each source.
    pub notes: Vec<Vec<Note>>,
}

/// A column of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedColumn {
    /// Its name.
    pub name: String,
    /// Its type in each source: `Null` if the source has no value in it, `None` if the source lacks it.
    pub sources: Vec<Option<DataType>>,
    /// Its canonical type in the result.
    pub data_type: DataType,
}

/// Reads the sources as [`ingest`](super::ingest()) does to decide the columns of its result, and no further.
///
/// # Errors
/// As [`ingest`](super::ingest()), of what is found here.
pub fn preview(sources: &[(Section, FileFormat)], options: &IngestOptions) -> Result<Preview, IngestError> {
    let (scans, columns) = planned(sources, options)?;
    let mut notes: Vec<Vec<Note>> = scans.iter().map(|scan| scan.notes().to_vec()).collect();
    columns.note_epochs(&scans, &mut notes);
    Ok(Preview { columns: columns.planned(&scans), notes })
}
