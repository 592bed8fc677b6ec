//! Datasets on the wire.

use std::collections::{BTreeMap, HashMap};

use rekindle_dataset::{ColumnSummary, Kind};
use rekindle_domain::{DatasetName, Digest};
use rekindle_proto::{
    registry::{
        self as wire, ColumnKind, FileFormat, GetVersionRequest, ListDatasetsRequest, ListDatasetsResponse,
        ListVersionsRequest, ListVersionsResponse, RegisterVersionRequest, datasets_server::Datasets,
    },
    time::to_wire,
};
use tonic::{Request, Response, Status};

use super::{at_most, cursor, digests, moment, number, open, page, parse, text};
use crate::{
    App, Error,
    call::Intent,
    config::Limits,
    dataset::{self, Column, DatasetVersion, Format, Registration, Source},
    store,
};

#[tonic::async_trait]
impl Datasets for App {
    async fn register_version(
        &self,
        request: Request<RegisterVersionRequest>,
    ) -> Result<Response<wire::DatasetVersion>, Status> {
        let (call, request) = open(request);
        let intent = Intent::of("RegisterVersion", &request.idempotency_key, &request)?;
        let registration = registration(request, &self.0.config.limits)?;
        let state = &self.0;
        let made = dataset::register(&state.db, &state.artifacts, &state.reader, call, intent, registration).await?;
        Ok(Response::new(version_to_wire(made)))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<wire::DatasetVersion>, Status> {
        let (_, request) = open(request);
        let name = parse("name", &request.name)?;
        let version = dataset::get(&self.0.db, &name, number(request.version)).await?;
        Ok(Response::new(version_to_wire(version)))
    }

    async fn list_datasets(
        &self,
        request: Request<ListDatasetsRequest>,
    ) -> Result<Response<ListDatasetsResponse>, Status> {
        let (_, request) = open(request);
        let page = page(request.page_size, &request.page_token)?;
        let found = store::datasets::latest_of_each(&self.0.db, page.after.as_deref(), page.size).await;
        let (found, next_page_token) = page.cut(found.map_err(Error::from)?, |version| version.name.to_string());
        let datasets = found.into_iter().map(version_to_wire).collect();
        Ok(Response::new(ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let (_, request) = open(request);
        let name: DatasetName = parse("name", &request.name)?;
        let page = page(request.page_size, &request.page_token)?;
        let found = dataset::versions(&self.0.db, &name, cursor(&page)?, page.size).await?;
        let (found, next_page_token) = page.cut(found, |version| version.version.to_string());
        let versions = found.into_iter().map(version_to_wire).collect();
        Ok(Response::new(ListVersionsResponse { versions, next_page_token }))
    }
}

fn registration(request: RegisterVersionRequest, limits: &Limits) -> Result<Registration, Error> {
    let time_column = (!request.time_column.is_empty()).then_some(request.time_column);
    let (from, until) = (moment("from", request.from)?, moment("until", request.until)?);
    if time_column.is_none() && (from.is_some() || until.is_some()) {
        return Err(Error::invalid("time_column", "is empty: a range needs the column that holds the time"));
    }
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        return Err(Error::invalid("until", "must lie after from: the range is half-open"));
    }
    if request.sources.is_empty() {
        return Err(Error::invalid("sources", "is empty: upload a file and name its digest and format"));
    }
    at_most("sources", request.sources.len(), ("sources", limits.sources))?;
    Ok(Registration {
        name: parse("name", &request.name)?,
        sources: request.sources.iter().enumerate().map(source).collect::<Result<_, _>>()?,
        time_column,
        kinds: kinds(request.kinds)?,
        parents: digests("parents", &request.parents, ("parents", limits.parents))?,
        description: text("description", request.description, limits)?,
        from,
        until,
    })
}

fn source((index, source): (usize, &wire::Source)) -> Result<Source, Error> {
    let format = match FileFormat::try_from(source.format) {
        Ok(FileFormat::Csv) => Format::Csv,
        Ok(FileFormat::Parquet) => Format::Parquet,
        Ok(FileFormat::Unspecified) | Err(_) => {
            let problem = format!("is {}: use FILE_FORMAT_CSV or FILE_FORMAT_PARQUET", source.format);
            return Err(Error::invalid(format!("sources[{index}].format"), problem));
        }
    };
    Ok(Source { digest: parse(format!("sources[{index}].digest"), &source.digest)?, format })
}

fn kinds(kinds: HashMap<String, i32>) -> Result<BTreeMap<String, Kind>, Error> {
    let kind = |(column, kind): (String, i32)| {
        let parsed = match ColumnKind::try_from(kind) {
            Ok(ColumnKind::Numeric) => Kind::Numeric,
            Ok(ColumnKind::Categorical) => Kind::Categorical,
            Ok(ColumnKind::Timestamp) => Kind::Timestamp,
            Ok(ColumnKind::Boolean) => Kind::Boolean,
            Ok(ColumnKind::Unspecified) | Err(_) => {
                let problem = format!("is {kind}: use COLUMN_KIND_NUMERIC, _CATEGORICAL, _TIMESTAMP or _BOOLEAN");
                return Err(Error::invalid(format!("kinds[{column}]"), problem));
            }
        };
        Ok((column, parsed))
    };
    kinds.into_iter().map(kind).collect()
}

/// A version as it travels.
pub(super) fn version_to_wire(version: DatasetVersion) -> wire::DatasetVersion {
    let (time_min, time_max) = version.time_range.unzip();
    wire::DatasetVersion {
        name: version.name.into(),
        version: version.version,
        content_digest: version.content.to_string(),
        blob_digest: version.blob.to_string(),
        rows: version.rows,
        bytes: version.bytes,
        columns: version.columns.into_iter().map(column_to_wire).collect(),
        time_column: version.time_column.unwrap_or_default(),
        time_min: time_min.map(to_wire),
        time_max: time_max.map(to_wire),
        parents: version.parents.iter().map(Digest::to_string).collect(),
        description: version.description,
        profile: version.profile.into_iter().map(summary_to_wire).collect(),
        created_at: Some(to_wire(version.created_at)),
    }
}

fn column_to_wire(column: Column) -> wire::Column {
    let kind = match column.kind {
        Kind::Numeric => ColumnKind::Numeric,
        Kind::Categorical => ColumnKind::Categorical,
        Kind::Timestamp => ColumnKind::Timestamp,
        Kind::Boolean => ColumnKind::Boolean,
    };
    wire::Column { name: column.name, data_type: column.data_type, kind: kind.into(), nullable: column.nullable }
}

fn summary_to_wire(summary: ColumnSummary) -> wire::ColumnProfile {
    let ColumnSummary { name, missing, distinct, min, max, mean, std, top } = summary;
    let count = |top: rekindle_dataset::ValueCount| wire::ValueCount { value: top.value, count: top.count };
    wire::ColumnProfile { name, missing, distinct, min, max, mean, std, top: top.into_iter().map(count).collect() }
}
