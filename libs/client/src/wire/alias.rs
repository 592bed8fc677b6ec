//! Aliases and their moves.

use rekindle_domain::{
    Alias,
    alias::AliasMove,
    validation::{Checks, Violations},
};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::{
    field::{parse, required_time},
    time,
};

/// An alias as a message.
pub fn to_wire(alias: &Alias) -> wire::Alias {
    wire::Alias {
        model: alias.model.to_string(),
        alias: alias.alias.to_string(),
        version: alias.version,
        bundle_digest: alias.bundle.to_string(),
        revision: alias.revision,
        by: alias.by.clone(),
        why: alias.why.clone(),
        moved_at: Some(time::to_wire(alias.moved_at)),
    }
}

/// The alias in proto3 JSON.
pub fn to_json(alias: &Alias) -> Value {
    json::to_value(&to_wire(alias))
}

/// The alias that a message holds.
pub fn from_wire(given: wire::Alias) -> Result<Alias, Violations> {
    Ok(Alias {
        model: parse("model", &given.model)?,
        alias: parse("alias", &given.alias)?,
        version: given.version,
        bundle: parse("bundle_digest", &given.bundle_digest)?,
        revision: given.revision,
        by: given.by,
        why: given.why,
        moved_at: required_time("moved_at", given.moved_at)?,
    })
}

/// A move, as its request.
pub fn move_to_wire(target: &AliasMove) -> wire::SetAliasRequest {
    wire::SetAliasRequest {
        model: target.model.to_string(),
        alias: target.alias.to_string(),
        version: target.version,
        expected_revision: target.expected_revision,
        why: target.why.clone(),
    }
}

/// The move that a request holds.
pub fn move_from_wire(given: wire::SetAliasRequest) -> Result<AliasMove, Violations> {
    let mut checks = Checks::new();
    let model = checks.parsed("model", given.model.parse());
    let alias = checks.parsed("alias", given.alias.parse());
    checks.require(given.version > 0, "version", given.version, "a number from 1");
    checks.finish()?;
    let (model, alias) = model.zip(alias).ok_or_else(|| Violations::of("alias", "is missing"))?;
    let (version, expected_revision, why) = (given.version, given.expected_revision, given.why);
    Ok(AliasMove { model, alias, version, expected_revision, why })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::{AliasName, Digest};

    use super::*;

    #[test]
    fn aliases_and_moves_survive() {
        let alias = Alias {
            model: "m".parse().expect("a name"),
            alias: AliasName::champion(),
            version: 2,
            bundle: Digest::of(b"bundle"),
            revision: 3,
            by: "alice".into(),
            why: "better".into(),
            moved_at: DateTime::UNIX_EPOCH,
        };
        let target = AliasMove {
            model: alias.model.clone(),
            alias: AliasName::champion(),
            version: 3,
            expected_revision: 3,
            why: "better".into(),
        };
        let json = to_json(&alias);
        assert_eq!((&json["alias"], &json["revision"]), (&"champion".into(), &"3".into()));
        assert_eq!(from_wire(to_wire(&alias)), Ok(alias));
        assert_eq!(move_from_wire(move_to_wire(&target)), Ok(target));
        let fields = move_from_wire(wire::SetAliasRequest::default()).expect_err("three");
        assert_eq!(fields.iter().count(), 3);
    }
}
