//! Searches of experiments, models, versions and logged models: filtered, ordered and paged here, since there are few of them.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use super::Refused;
use crate::filter::{self, Comparison, Filter, Kind, Test, Value, compare, matches, parse_filter, parse_orders};

/// Records that are searched at most.
pub(super) const MOST: u64 = 20_000;
/// The tag of a model that is a prompt. Clients search models without it by `!= 'true'`, which a record without a tag does not satisfy.
const PROMPT: &str = "mlflow.prompt.is_prompt";

/// A field that records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Name,
    VersionNumber,
    RunId,
    SourcePath,
    ModelId,
    ModelType,
    Status,
    CreatedAt,
    UpdatedAt,
}

pub(super) type Field = filter::Field<Attribute>;

impl filter::Attribute for Attribute {
    const ALL: &'static [Self] = &[
        Self::Name,
        Self::VersionNumber,
        Self::RunId,
        Self::SourcePath,
        Self::ModelId,
        Self::ModelType,
        Self::Status,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::VersionNumber => "version_number",
            Self::RunId => "run_id",
            Self::SourcePath => "source_path",
            Self::ModelId => "model_id",
            Self::ModelType => "model_type",
            Self::Status => "status",
            Self::CreatedAt => "creation_timestamp",
            Self::UpdatedAt => "last_updated_timestamp",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::VersionNumber => Kind::Number,
            Self::CreatedAt | Self::UpdatedAt => Kind::Time,
            _ => Kind::Text,
        }
    }

    fn other_name(name: &str) -> Option<Field> {
        Some(Field::Attribute(match name {
            "creation_time" | "creation_timestamp_ms" | "timestamp" => Self::CreatedAt,
            "last_update_time" | "last_updated_timestamp_ms" => Self::UpdatedAt,
            "version" => Self::VersionNumber,
            "source_run_id" => Self::RunId,
            "source" => Self::SourcePath,
            _ => return None,
        }))
    }
}

/// What a search needs of a record.
pub(super) trait Record {
    /// The value of a field; `None` if it has none.
    fn value(&self, field: &Field) -> Option<Value>;
}

/// A time as a filter compares it.
pub(super) fn time(time: DateTime<Utc>) -> Option<Value> {
    Some(Value::Time(time))
}

/// A text as a filter compares it.
pub(super) fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}

/// The records of a page, and the token of the next one.
pub(super) fn page<R: Record>(
    records: Vec<R>,
    filter: &str,
    order_by: &[String],
    (size, token): (usize, &str),
) -> Result<(Vec<R>, Option<String>), Refused> {
    if records.len() as u64 >= MOST {
        return Err(Refused::invalid(format!("there are {MOST} or more, and fewer are searched: name one")));
    }
    let from: usize = match token {
        "" => 0,
        token => token.parse().map_err(|_| Refused::invalid("page_token: expected that of the page before"))?,
    };
    let filter: Option<Filter<Attribute>> = parse_filter(filter)?;
    let orders = parse_orders::<Attribute>(order_by)?;
    let found = |record: &R| match &filter {
        Some(filter) => matches(filter, &|field| value(record, field)),
        None => true,
    };
    let mut records: Vec<R> = records.into_iter().filter(found).collect();
    records.sort_by(|one, other| {
        let by = |order: &filter::Order<Attribute>| match (value(one, &order.field), value(other, &order.field)) {
            (Some(one), Some(other)) => {
                let ordering = compare(&one, &other).unwrap_or(Ordering::Equal);
                if order.descending { ordering.reverse() } else { ordering }
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        orders.iter().map(by).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    });
    let left = records.len().saturating_sub(from);
    let next = (left > size).then(|| (from + size).to_string());
    Ok((records.into_iter().skip(from).take(size).collect(), next))
}

/// The only name that records of a filter can have; `None` if they can have several.
pub(super) fn only_name(filter: &str) -> Result<Option<String>, Refused> {
    let filter: Option<Filter<Attribute>> = parse_filter(filter)?;
    let name = |part: &Filter<Attribute>| match part {
        Filter::Is(Field::Attribute(Attribute::Name), Test::Compare(Comparison::Equal, Value::Text(name))) => {
            Some(name.clone())
        }
        _ => None,
    };
    Ok(filter.and_then(|filter| match &filter {
        Filter::All(parts) => parts.iter().find_map(name),
        part => name(part),
    }))
}

fn value(record: &impl Record, field: &Field) -> Option<Value> {
    let found = record.value(field);
    if found.is_none() && *field == Field::Tag(PROMPT.to_owned()) {
        return text("false");
    }
    found
}
