//! What is declared of a dataset's columns.

use rekindle_domain::{
    dataset::{ColumnRole, ColumnSchema, DatasetSchema, RuleViolation},
    validation::Violations,
};
use rekindle_proto::registry as wire;

use super::{
    field::{each, enumeration, optional_span},
    time,
};

/// A schema as a message.
pub fn to_wire(schema: &DatasetSchema) -> wire::Schema {
    wire::Schema {
        columns: schema.columns.iter().map(column_to_wire).collect(),
        unique: schema.unique.iter().map(|columns| wire::UniqueKey { columns: columns.clone() }).collect(),
        max_age: schema.max_age.map(time::span_to_wire),
    }
}

/// The schema that a message holds, which is consistent.
pub fn from_wire(given: wire::Schema) -> Result<DatasetSchema, Violations> {
    let schema = DatasetSchema {
        columns: each("columns", given.columns, column_from_wire)?,
        unique: given.unique.into_iter().map(|key| key.columns).collect(),
        max_age: optional_span("max_age", given.max_age)?,
    };
    schema.check().map(|()| schema)
}

fn column_to_wire(column: &ColumnSchema) -> wire::ColumnSchema {
    let role = match column.role {
        None => wire::ColumnRole::Unspecified,
        Some(role) => role_to_wire(role),
    };
    wire::ColumnSchema {
        name: column.name.clone(),
        role: role.into(),
        unit: column.unit.clone(),
        description: column.description.clone(),
        sensitive: column.sensitive,
        required: column.required,
        min: column.min,
        max: column.max,
        allowed: column.allowed.iter().cloned().collect(),
    }
}

fn column_from_wire(given: wire::ColumnSchema) -> Result<ColumnSchema, Violations> {
    let expected = "COLUMN_ROLE_FEATURE, _TARGET, _TIME, _ENTITY_KEY, _WEIGHT";
    let of = |given: wire::ColumnRole| match given {
        wire::ColumnRole::Unspecified => Some(None),
        given => ColumnRole::ALL.into_iter().find(|&role| role_to_wire(role) == given).map(Some),
    };
    Ok(ColumnSchema {
        role: enumeration("role", given.role, expected, of)?,
        name: given.name,
        unit: given.unit,
        description: given.description,
        sensitive: given.sensitive,
        required: given.required,
        min: given.min,
        max: given.max,
        allowed: given.allowed.into_iter().collect(),
    })
}

fn role_to_wire(role: ColumnRole) -> wire::ColumnRole {
    match role {
        ColumnRole::Feature => wire::ColumnRole::Feature,
        ColumnRole::Target => wire::ColumnRole::Target,
        ColumnRole::Time => wire::ColumnRole::Time,
        ColumnRole::EntityKey => wire::ColumnRole::EntityKey,
        ColumnRole::Weight => wire::ColumnRole::Weight,
    }
}

/// A broken rule as a message.
pub(super) fn violation_to_wire(violation: &RuleViolation) -> wire::RuleViolation {
    let RuleViolation { rule, rows, message } = violation.clone();
    wire::RuleViolation { rule, rows, message }
}

/// The broken rule that a message holds.
pub(super) fn violation_from_wire(given: wire::RuleViolation) -> RuleViolation {
    let wire::RuleViolation { rule, rows, message } = given;
    RuleViolation { rule, rows, message }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn schemas_survive_and_an_inconsistent_one_is_refused() {
        let column = |role: ColumnRole| ColumnSchema {
            name: role.name().to_owned(),
            role: Some(role),
            unit: "km".into(),
            description: "length".into(),
            sensitive: true,
            required: true,
            min: Some(0.0),
            max: None,
            allowed: ["a".to_owned()].into(),
        };
        let schema = DatasetSchema {
            columns: ColumnRole::ALL.map(column).into_iter().chain([ColumnSchema::default()]).collect(),
            unique: vec![vec!["a".into(), "b".into()]],
            max_age: Some(Duration::from_secs(60)),
        };
        assert_eq!(from_wire(to_wire(&schema)), Ok(schema.clone()));
        let twice = DatasetSchema { columns: schema.columns.into_iter().cycle().take(12).collect(), ..schema };
        assert!(from_wire(to_wire(&twice)).is_err());
    }
}
