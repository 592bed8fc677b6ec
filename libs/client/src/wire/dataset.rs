//! Dataset versions and their registration.

use std::collections::BTreeMap;

use rekindle_domain::{
    ColumnKind, Digest,
    dataset::{
        Cell, Column, ColumnChange, ColumnSummary, DatasetRegistration, DatasetRows, DatasetVersion, FileFormat,
        Source, ValueCount,
    },
    validation::{Checks, Violations},
};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::{
    dataset_schema::{self, violation_from_wire, violation_to_wire},
    field::{each, enumeration, nested_optional, optional_time, parse, parse_all, required_time},
    reading, time,
};

/// A version as a message.
pub fn to_wire(version: &DatasetVersion) -> wire::DatasetVersion {
    wire::DatasetVersion {
        name: version.name.to_string(),
        version: version.version,
        content_digest: version.content.to_string(),
        blob_digest: version.blob.to_string(),
        rows: version.rows,
        bytes: version.bytes,
        columns: version.columns.iter().map(column_to_wire).collect(),
        time_column: version.time_column.clone().unwrap_or_default(),
        time_min: version.time_range.map(|(first, _)| time::to_wire(first)),
        time_max: version.time_range.map(|(_, last)| time::to_wire(last)),
        parents: version.parents.iter().map(Digest::to_string).collect(),
        description: version.description.clone(),
        profile: version.profile.iter().map(summary_to_wire).collect(),
        created_at: Some(time::to_wire(version.created_at)),
        schema: version.schema.as_ref().map(dataset_schema::to_wire),
        violations: version.violations.iter().map(violation_to_wire).collect(),
        deleted_at: version.deleted_at.map(time::to_wire),
    }
}

/// The version in proto3 JSON.
pub fn to_json(version: &DatasetVersion) -> Value {
    json::to_value(&to_wire(version))
}

/// The version that a message holds.
pub fn from_wire(given: wire::DatasetVersion) -> Result<DatasetVersion, Violations> {
    let first = optional_time("time_min", given.time_min)?;
    let last = optional_time("time_max", given.time_max)?;
    Ok(DatasetVersion {
        name: parse("name", &given.name)?,
        version: given.version,
        content: parse("content_digest", &given.content_digest)?,
        blob: parse("blob_digest", &given.blob_digest)?,
        rows: given.rows,
        bytes: given.bytes,
        columns: each("columns", given.columns, column_from_wire)?,
        time_column: non_empty(given.time_column),
        time_range: first.zip(last),
        parents: parse_all("parents", &given.parents)?,
        description: given.description,
        profile: given.profile.into_iter().map(summary_from_wire).collect(),
        created_at: required_time("created_at", given.created_at)?,
        schema: nested_optional("schema", given.schema, dataset_schema::from_wire)?,
        violations: given.violations.into_iter().map(violation_from_wire).collect(),
        deleted_at: optional_time("deleted_at", given.deleted_at)?,
    })
}

/// A registration, as its request.
pub fn registration_to_wire(
    registration: &DatasetRegistration,
    idempotency_key: String,
) -> wire::RegisterVersionRequest {
    let kind = |(name, &kind): (&String, &ColumnKind)| (name.clone(), kind_to_wire(kind).into());
    wire::RegisterVersionRequest {
        idempotency_key,
        name: registration.name.to_string(),
        sources: registration.sources.iter().map(source_to_wire).collect(),
        time_column: registration.time_column.clone().unwrap_or_default(),
        kinds: registration.kinds.iter().map(kind).collect(),
        parents: registration.parents.iter().map(Digest::to_string).collect(),
        description: registration.description.clone(),
        from: registration.from.map(time::to_wire),
        until: registration.until.map(time::to_wire),
        reading: reading::to_wire(&registration.reading),
        columns: reading::columns_to_wire(registration.columns),
        schema: registration.schema.as_ref().map(dataset_schema::to_wire),
        accept_violations: registration.accept_violations,
    }
}

/// The registration that a request holds.
pub fn registration_from_wire(given: wire::RegisterVersionRequest) -> Result<DatasetRegistration, Violations> {
    let time_column = non_empty(given.time_column);
    let mut checks = Checks::new();
    let (from, until) = (optional_time("from", given.from)?, optional_time("until", given.until)?);
    if time_column.is_none() && (from.is_some() || until.is_some()) {
        checks.violation("time_column", "is empty: a range requires the column that holds the time");
    }
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        checks.violation("until", "is not after from: the range is half-open, [from, until)");
    }
    if given.sources.is_empty() {
        checks.violation("sources", "is empty: upload a file and specify its digest and format");
    }
    if time_column.is_none() && given.schema.as_ref().is_some_and(|schema| schema.max_age.is_some()) {
        checks.violation("schema.max_age", "is set: an age requires the column that holds the time");
    }
    checks.finish()?;
    Ok(DatasetRegistration {
        name: parse("name", &given.name)?,
        sources: each("sources", given.sources, source_from_wire)?,
        time_column,
        kinds: kinds_from_wire(given.kinds)?,
        parents: parse_all("parents", &given.parents)?,
        description: given.description,
        from,
        until,
        reading: reading::from_wire(given.reading)?,
        columns: reading::columns_from_wire(given.columns)?,
        schema: nested_optional("schema", given.schema, dataset_schema::from_wire)?,
        accept_violations: given.accept_violations,
    })
}

/// Rows as a message.
pub fn rows_to_wire(rows: DatasetRows) -> wire::PreviewVersionResponse {
    let DatasetRows { name, version, columns, rows } = rows;
    let row = |row: Vec<Option<Cell>>| wire::PreviewRow { cells: row.into_iter().map(cell_to_wire).collect() };
    wire::PreviewVersionResponse { name: name.to_string(), version, columns, rows: rows.into_iter().map(row).collect() }
}

/// The rows that a message holds.
pub fn rows_from_wire(given: wire::PreviewVersionResponse) -> Result<DatasetRows, Violations> {
    let row = |row: wire::PreviewRow| each("cells", row.cells, cell_from_wire);
    Ok(DatasetRows {
        name: parse("name", &given.name)?,
        version: given.version,
        columns: given.columns,
        rows: each("rows", given.rows, row)?,
    })
}

/// The rows in proto3 JSON.
pub fn rows_to_json(rows: &DatasetRows) -> Value {
    json::to_value(&rows_to_wire(rows.clone()))
}

fn cell_to_wire(cell: Option<Cell>) -> wire::Cell {
    use wire::cell::Value::{Boolean, Integer, Number, Text, Time};
    let value = cell.map(|cell| match cell {
        Cell::Number(number) => Number(number),
        Cell::Integer(integer) => Integer(integer),
        Cell::Text(text) => Text(text),
        Cell::Boolean(boolean) => Boolean(boolean),
        Cell::Time(at) => Time(time::to_wire(at)),
    });
    wire::Cell { value }
}

fn cell_from_wire(given: wire::Cell) -> Result<Option<Cell>, Violations> {
    use wire::cell::Value::{Boolean, Integer, Number, Text, Time};
    Ok(match given.value {
        None => None,
        Some(Number(number)) => Some(Cell::Number(number)),
        Some(Integer(integer)) => Some(Cell::Integer(integer)),
        Some(Text(text)) => Some(Cell::Text(text)),
        Some(Boolean(boolean)) => Some(Cell::Boolean(boolean)),
        Some(Time(at)) => Some(Cell::Time(required_time("time", Some(at))?)),
    })
}

/// What differs between two versions, as a message.
pub fn comparison_to_wire(
    base: &DatasetVersion,
    version: &DatasetVersion,
    changes: Vec<ColumnChange>,
) -> wire::CompareVersionsResponse {
    let change = |ColumnChange { column, differences }: ColumnChange| wire::ColumnChange { column, differences };
    wire::CompareVersionsResponse {
        base: Some(to_wire(base)),
        version: Some(to_wire(version)),
        changes: changes.into_iter().map(change).collect(),
    }
}

/// What differs between two versions, in proto3 JSON.
pub fn comparison_to_json(base: &DatasetVersion, version: &DatasetVersion, changes: Vec<ColumnChange>) -> Value {
    json::to_value(&comparison_to_wire(base, version, changes))
}

/// What differs between two versions: the base, the other, and the columns.
pub fn comparison_from_wire(
    given: wire::CompareVersionsResponse,
) -> Result<(DatasetVersion, DatasetVersion, Vec<ColumnChange>), Violations> {
    let change = |wire::ColumnChange { column, differences }: wire::ColumnChange| ColumnChange { column, differences };
    Ok((
        super::field::nested("base", given.base, from_wire)?,
        super::field::nested("version", given.version, from_wire)?,
        given.changes.into_iter().map(change).collect(),
    ))
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn source_to_wire(source: &Source) -> wire::Source {
    let format = match source.format {
        FileFormat::Csv => wire::FileFormat::Csv,
        FileFormat::Parquet => wire::FileFormat::Parquet,
    };
    wire::Source { digest: source.digest.to_string(), format: format.into() }
}

fn source_from_wire(given: wire::Source) -> Result<Source, Violations> {
    let expected = "FILE_FORMAT_CSV, FILE_FORMAT_PARQUET";
    let format = enumeration("format", given.format, expected, |format| match format {
        wire::FileFormat::Unspecified => None,
        wire::FileFormat::Csv => Some(FileFormat::Csv),
        wire::FileFormat::Parquet => Some(FileFormat::Parquet),
    })?;
    Ok(Source { digest: parse("digest", &given.digest)?, format })
}

fn kinds_from_wire(given: impl IntoIterator<Item = (String, i32)>) -> Result<BTreeMap<String, ColumnKind>, Violations> {
    let kind = |(name, kind): (String, i32)| {
        let kind = kind_from_wire(format!("kinds[{name}]"), kind)?;
        Ok((name, kind))
    };
    given.into_iter().map(kind).collect()
}

fn kind_to_wire(kind: ColumnKind) -> wire::ColumnKind {
    match kind {
        ColumnKind::Numeric => wire::ColumnKind::Numeric,
        ColumnKind::Categorical => wire::ColumnKind::Categorical,
        ColumnKind::Timestamp => wire::ColumnKind::Timestamp,
        ColumnKind::Boolean => wire::ColumnKind::Boolean,
    }
}

fn kind_from_wire(field: String, given: i32) -> Result<ColumnKind, Violations> {
    let of = |kind: wire::ColumnKind| ColumnKind::ALL.into_iter().find(|&own| kind_to_wire(own) == kind);
    enumeration(field, given, "COLUMN_KIND_NUMERIC, _CATEGORICAL, _TIMESTAMP, _BOOLEAN", of)
}

fn column_to_wire(column: &Column) -> wire::Column {
    wire::Column {
        name: column.name.clone(),
        data_type: column.data_type.clone(),
        kind: kind_to_wire(column.kind).into(),
        nullable: column.nullable,
    }
}

fn column_from_wire(given: wire::Column) -> Result<Column, Violations> {
    let kind = kind_from_wire("kind".to_owned(), given.kind)?;
    Ok(Column { name: given.name, data_type: given.data_type, kind, nullable: given.nullable })
}

fn summary_to_wire(summary: &ColumnSummary) -> wire::ColumnProfile {
    let count = |top: &ValueCount| wire::ValueCount { value: top.value.clone(), count: top.count };
    wire::ColumnProfile {
        name: summary.name.clone(),
        missing: summary.missing,
        distinct: summary.distinct,
        min: summary.min,
        max: summary.max,
        mean: summary.mean,
        std: summary.std,
        top: summary.top.iter().map(count).collect(),
    }
}

fn summary_from_wire(given: wire::ColumnProfile) -> ColumnSummary {
    let count = |top: wire::ValueCount| ValueCount { value: top.value, count: top.count };
    let wire::ColumnProfile { name, missing, distinct, min, max, mean, std, top } = given;
    ColumnSummary { name, missing, distinct, min, max, mean, std, top: top.into_iter().map(count).collect() }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use rekindle_domain::dataset::{DatasetSchema, ReadOptions, RuleViolation, SourceColumns};

    use super::*;

    #[test]
    fn versions_survive() {
        let column =
            |kind: ColumnKind| Column { name: kind.name().into(), data_type: "Float64".into(), kind, nullable: true };
        let summary = ColumnSummary {
            name: "numeric".into(),
            missing: 1,
            distinct: 2,
            min: Some(0.0),
            max: None,
            mean: Some(1.0),
            std: None,
            top: vec![ValueCount { value: "1".into(), count: 3 }],
        };
        let version = DatasetVersion {
            name: "d".parse().expect("a name"),
            version: 4,
            content: Digest::of(b"rows"),
            blob: Digest::of(b"file"),
            rows: 10,
            bytes: 100,
            columns: ColumnKind::ALL.map(column).to_vec(),
            time_column: Some("timestamp".into()),
            time_range: Some((DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH)),
            parents: vec![Digest::of(b"parent")],
            description: "d".into(),
            profile: vec![summary],
            created_at: DateTime::UNIX_EPOCH,
            schema: Some(DatasetSchema::default()),
            violations: vec![RuleViolation { rule: "max_age".into(), rows: 1, message: "old".into() }],
            deleted_at: Some(DateTime::UNIX_EPOCH),
        };
        let changes = vec![ColumnChange { column: "a".into(), differences: vec!["added".into()] }];
        let compared = comparison_from_wire(comparison_to_wire(&version, &version, changes.clone()));
        assert_eq!(compared, Ok((version.clone(), version.clone(), changes)));
        let json = to_json(&version);
        assert_eq!((&json["rows"], &json["columns"][0]["kind"]), (&"10".into(), &"COLUMN_KIND_NUMERIC".into()));
        assert_eq!(from_wire(to_wire(&version)), Ok(version));
    }

    #[test]
    fn rows_survive() {
        let cells = [
            Cell::Number(0.5),
            Cell::Integer(i64::MAX),
            Cell::Text("a".into()),
            Cell::Boolean(true),
            Cell::Time(DateTime::UNIX_EPOCH),
        ];
        let rows = DatasetRows {
            name: "d".parse().expect("a name"),
            version: 2,
            columns: ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec(),
            rows: vec![cells.into_iter().map(Some).chain([None]).collect()],
        };
        assert_eq!(rows_from_wire(rows_to_wire(rows.clone())), Ok(rows));
    }

    #[test]
    fn registrations_survive_and_a_range_requires_a_time_column() {
        let registration = DatasetRegistration {
            name: "d".parse().expect("a name"),
            sources: vec![Source { digest: Digest::of(b"file"), format: FileFormat::Csv }],
            time_column: Some("timestamp".into()),
            kinds: BTreeMap::from([("code".into(), ColumnKind::Categorical)]),
            parents: vec![],
            description: String::new(),
            from: Some(DateTime::UNIX_EPOCH),
            until: None,
            reading: ReadOptions { separator: b';', ..ReadOptions::default() },
            columns: SourceColumns::Common,
            schema: Some(DatasetSchema::default()),
            accept_violations: true,
        };
        let request = registration_to_wire(&registration, "key".into());
        assert_eq!(registration_from_wire(request.clone()), Ok(registration));
        let without = wire::RegisterVersionRequest { time_column: String::new(), sources: vec![], ..request };
        let fields: Vec<_> = registration_from_wire(without).expect_err("two").into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["time_column", "sources"]);
    }
}
