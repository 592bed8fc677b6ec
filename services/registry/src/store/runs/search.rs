//! Searches of runs: filters and orders as SQL that SQLite and PostgreSQL share.

use chrono::{DateTime, Utc};
use rekindle_domain::{ExperimentName, Namespace, RunId, run::Run};
use rekindle_store::within;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, ExprTrait, Order as Direction, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{BinOper, Expr, Func, Query, SelectStatement},
};
use uuid::Uuid;

use super::noun;
use crate::{
    experiment::View,
    filter::{Comparison, Test, Value},
    run::{
        Leased,
        filter::{Attribute, Field, Filter, Order},
    },
    store::entity::{run, run_last_metric},
};

/// Which runs are listed, and in which order. Runs that the order leaves equal are listed newest first.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) namespace: Namespace,
    /// `None`: those of the namespace.
    pub(crate) experiments: Option<Vec<ExperimentName>>,
    pub(crate) view: View,
    pub(crate) filter: Option<Filter>,
    pub(crate) orders: Vec<Order>,
}

/// The position of a run in a list: the fields by which it is ordered, then its creation time, then its id, which callers may choose.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Position {
    pub(crate) keys: Vec<Key>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) id: RunId,
}

/// The value of a field that runs are ordered by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Missing,
    Number(f64),
    Text(String),
    Time(DateTime<Utc>),
    Id(Uuid),
}

impl Position {
    /// The position of a run with its metrics in a list by these orders.
    pub(crate) fn of(run: &Run, orders: &[Order]) -> Self {
        let keys = orders.iter().map(|order| key(run, &order.field)).collect();
        Self { keys, created_at: run.created_at, id: run.id }
    }
}

fn key(run: &Run, field: &Field) -> Key {
    let text = |text: Option<&String>| text.map_or(Key::Missing, |text| Key::Text(text.clone()));
    let time = |time: Option<DateTime<Utc>>| time.map_or(Key::Missing, Key::Time);
    match field {
        Field::Metric(name) => {
            let last = run.metrics.iter().find(|metric| metric.name == *name);
            last.map_or(Key::Missing, |metric| Key::Number(metric.value))
        }
        Field::Param(name) => text(run.params.get(name)),
        Field::Tag(name) => text(run.tags.get(name)),
        Field::Attribute(attribute) => match attribute {
            Attribute::Id => Key::Id(run.id.uuid()),
            Attribute::ParentId => run.parent_id.map_or(Key::Missing, |id| Key::Id(id.uuid())),
            Attribute::Experiment => Key::Text(run.experiment.to_string()),
            Attribute::Status => Key::Text(run.status.name().to_owned()),
            Attribute::CodeRevision => Key::Text(run.code_revision.clone()),
            Attribute::CreatedAt => Key::Time(run.created_at),
            Attribute::StartedAt => time(run.started_at),
            Attribute::EndedAt => time(run.ended_at),
        },
    }
}

/// Runs after a position, without their metrics.
pub(crate) async fn search(
    db: &impl ConnectionTrait,
    search: &Search,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<Leased>, DbErr> {
    let backend = db.get_database_backend();
    let mut query = match &search.experiments {
        Some(experiments) => {
            let names = experiments.iter().map(ExperimentName::as_str);
            run::Entity::find().filter(run::Column::Experiment.is_in(names))
        }
        None => run::Entity::find().filter(within(&search.namespace, run::Column::Experiment)),
    };
    match search.view {
        View::Active => query = query.filter(run::Column::DeletedAt.is_null()),
        View::Deleted => query = query.filter(run::Column::DeletedAt.is_not_null()),
        View::All => {}
    }
    if let Some(filter) = &search.filter {
        query = query.filter(condition(filter, backend));
    }
    if let Some(position) = after {
        query = query.filter(follows(&search.orders, position, backend));
    }
    for Order { field, descending } in &search.orders {
        if is_optional(field) {
            query = query.order_by_asc(expression(field, backend).is_null());
        }
        query = query.order_by(expression(field, backend), if *descending { Direction::Desc } else { Direction::Asc });
    }
    let query = query.order_by_desc(run::Column::CreatedAt).order_by_desc(run::Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(noun).collect()
}

/// Whether a run comes after a position.
fn follows(orders: &[Order], position: &Position, backend: DbBackend) -> Condition {
    let (mut follows, mut equal) = (Condition::any(), Condition::all());
    for (Order { field, descending }, key) in orders.iter().zip(&position.keys) {
        let Some(value) = constant_of(key) else {
            // Runs without the field are the last.
            equal = equal.add(expression(field, backend).is_null());
            continue;
        };
        let further = if *descending {
            expression(field, backend).lt(value.clone())
        } else {
            expression(field, backend).gt(value.clone())
        };
        let mut after = Condition::any().add(further);
        if is_optional(field) {
            after = after.add(expression(field, backend).is_null());
        }
        follows = follows.add(equal.clone().add(after));
        equal = equal.add(expression(field, backend).eq(value));
    }
    let same_time = run::Column::CreatedAt.eq(position.created_at).and(run::Column::Id.lt(position.id.uuid()));
    let older = Condition::any().add(run::Column::CreatedAt.lt(position.created_at)).add(same_time);
    follows.add(equal.add(older))
}

fn constant_of(key: &Key) -> Option<Expr> {
    Some(match key {
        Key::Missing => return None,
        Key::Number(number) => Expr::val(*number),
        Key::Text(text) => Expr::val(text.as_str()),
        Key::Time(time) => Expr::val(*time),
        Key::Id(id) => Expr::val(*id),
    })
}

/// Whether there are runs without the field.
fn is_optional(field: &Field) -> bool {
    match field {
        Field::Metric(_) | Field::Param(_) | Field::Tag(_) => true,
        Field::Attribute(attribute) => {
            matches!(attribute, Attribute::ParentId | Attribute::StartedAt | Attribute::EndedAt)
        }
    }
}

/// The value of a field; null if the run does not have it.
fn expression(field: &Field, backend: DbBackend) -> Expr {
    match field {
        Field::Metric(name) => Expr::from(last_metric(name).expr(Expr::col(run_last_metric::Column::Value)).to_owned()),
        Field::Param(name) => entry(run::Column::Params, name, backend),
        Field::Tag(name) => entry(run::Column::Tags, name, backend),
        Field::Attribute(attribute) => column(*attribute).into_expr(),
    }
}

/// The value of a name in an object of texts.
fn entry(column: run::Column, name: &str, backend: DbBackend) -> Expr {
    match backend {
        DbBackend::Postgres => column.into_expr().binary(BinOper::Custom("->>"), Expr::val(name)),
        // SQLite's `->>` reads some names as paths.
        _ => Expr::cust_with_exprs(
            "(SELECT value FROM json_each(?) WHERE key = ?)",
            [column.into_expr(), Expr::val(name)],
        ),
    }
}

fn column(attribute: Attribute) -> run::Column {
    match attribute {
        Attribute::Id => run::Column::Id,
        Attribute::ParentId => run::Column::ParentId,
        Attribute::Experiment => run::Column::Experiment,
        Attribute::Status => run::Column::Status,
        Attribute::CodeRevision => run::Column::CodeRevision,
        Attribute::CreatedAt => run::Column::CreatedAt,
        Attribute::StartedAt => run::Column::StartedAt,
        Attribute::EndedAt => run::Column::EndedAt,
    }
}

/// A select without columns: the row of the last value of a metric of the run.
fn last_metric(name: &str) -> SelectStatement {
    Query::select()
        .from(run_last_metric::Entity)
        .and_where(run_last_metric::Column::RunId.into_expr().eq(run::Column::Id.into_expr()))
        .and_where(run_last_metric::Column::Name.into_expr().eq(name))
        .to_owned()
}

fn condition(filter: &Filter, backend: DbBackend) -> Condition {
    match filter {
        Filter::All(parts) => parts.iter().fold(Condition::all(), |all, part| all.add(condition(part, backend))),
        Filter::Any(parts) => parts.iter().fold(Condition::any(), |any, part| any.add(condition(part, backend))),
        Filter::Not(part) => condition(part, backend).not(),
        Filter::Is(field, test) => Condition::all().add(is(field, test, backend)),
    }
}

/// Whether a field passes a test. Never null, so that a negation finds exactly the other runs.
fn is(field: &Field, test: &Test, backend: DbBackend) -> Expr {
    if let Test::Missing = test {
        return expression(field, backend).is_null();
    }
    if let Field::Metric(name) = field {
        let value = passes(run_last_metric::Column::Value.into_expr(), test, backend);
        return Expr::exists(last_metric(name).expr(Expr::val(1)).and_where(value).to_owned());
    }
    let passes = passes(expression(field, backend), test, backend);
    if is_optional(field) { Func::coalesce([passes, Expr::val(false)]).into() } else { passes }
}

fn passes(left: Expr, test: &Test, backend: DbBackend) -> Expr {
    match test {
        Test::Compare(comparison, value) => {
            let right = constant(value);
            match comparison {
                Comparison::Equal => left.eq(right),
                Comparison::NotEqual => left.ne(right),
                Comparison::Less => left.lt(right),
                Comparison::LessOrEqual => left.lte(right),
                Comparison::Greater => left.gt(right),
                Comparison::GreaterOrEqual => left.gte(right),
            }
        }
        Test::In(values) => left.is_in(values.iter().map(constant)),
        Test::Like { pattern, ignore_case } => like(left, pattern, *ignore_case, backend),
        Test::Missing => left.is_null(),
    }
}

/// Whether a text has a pattern with the wildcards `%` and `_`, and no escapes.
fn like(left: Expr, pattern: &str, ignore_case: bool, backend: DbBackend) -> Expr {
    match backend {
        // PostgreSQL's LIKE has the backslash as its escape.
        DbBackend::Postgres => {
            let operator = if ignore_case { "ILIKE" } else { "LIKE" };
            left.binary(BinOper::Custom(operator), Expr::val(pattern.replace('\\', "\\\\")))
        }
        // SQLite's LIKE ignores the case of ASCII letters, and its GLOB does not.
        _ if ignore_case => left.binary(BinOper::Like, Expr::val(pattern)),
        _ => left.binary(BinOper::Custom("GLOB"), Expr::val(glob(pattern))),
    }
}

fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match character {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' | '[' => glob.extend(['[', character, ']']),
            other => glob.push(other),
        }
    }
    glob
}

fn constant(value: &Value) -> Expr {
    match value {
        Value::Number(number) => Expr::val(*number),
        Value::Text(text) => Expr::val(text.as_str()),
        Value::Time(time) => Expr::val(*time),
        Value::Run(id) => Expr::val(id.uuid()),
    }
}
