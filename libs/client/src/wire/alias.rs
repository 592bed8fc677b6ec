//! Aliases and their moves.

use rekindle_domain::{
    Alias,
    alias::{AliasMove, AliasProtection, AliasSwap},
    validation::{Checks, Violations},
};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::{
    field::{optional_time, parse, required_time},
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
        deleted: alias.deleted,
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
        deleted: given.deleted,
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

/// An exchange, as its request.
pub fn swap_to_wire(swap: &AliasSwap) -> wire::SwapAliasesRequest {
    let AliasSwap { model, one, other, why } = swap;
    wire::SwapAliasesRequest {
        model: model.to_string(),
        one: one.0.to_string(),
        other: other.0.to_string(),
        expected_revision_of_one: one.1,
        expected_revision_of_other: other.1,
        why: why.clone(),
    }
}

/// The exchange that a request holds.
pub fn swap_from_wire(given: wire::SwapAliasesRequest) -> Result<AliasSwap, Violations> {
    let mut checks = Checks::new();
    let model = checks.parsed("model", given.model.parse());
    let one = checks.parsed("one", given.one.parse());
    let other = checks.parsed("other", given.other.parse());
    checks.require(given.one != given.other, "other", &given.other, "another alias than one");
    checks.finish()?;
    let (model, one, other) = match (model, one, other) {
        (Some(model), Some(one), Some(other)) => (model, one, other),
        _ => return Err(Violations::of("one", "is missing")),
    };
    let one = (one, given.expected_revision_of_one);
    Ok(AliasSwap { model, one, other: (other, given.expected_revision_of_other), why: given.why })
}

/// A protection as a message.
pub fn protection_to_wire(protection: &AliasProtection) -> wire::AliasProtection {
    wire::AliasProtection {
        model: protection.model.to_string(),
        alias: protection.alias.to_string(),
        approvals: protection.approvals,
        except_author: protection.except_author,
        by: protection.by.clone(),
        why: protection.why.clone(),
        at: protection.at.map(time::to_wire),
    }
}

/// The protection in proto3 JSON.
pub fn protection_to_json(protection: &AliasProtection) -> Value {
    json::to_value(&protection_to_wire(protection))
}

/// The protection that a message holds.
pub fn protection_from_wire(given: wire::AliasProtection) -> Result<AliasProtection, Violations> {
    Ok(AliasProtection {
        model: parse("model", &given.model)?,
        alias: parse("alias", &given.alias)?,
        approvals: given.approvals,
        except_author: given.except_author,
        by: given.by,
        why: given.why,
        at: optional_time("at", given.at)?,
    })
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
            deleted: false,
        };
        let target = AliasMove {
            model: alias.model.clone(),
            alias: AliasName::champion(),
            version: 3,
            expected_revision: 3,
            why: "better".into(),
        };
        let model = alias.model.clone();
        let json = to_json(&alias);
        assert_eq!((&json["alias"], &json["revision"]), (&"champion".into(), &"3".into()));
        assert_eq!(from_wire(to_wire(&alias)), Ok(alias));
        assert_eq!(move_from_wire(move_to_wire(&target)), Ok(target));
        let other = "fallback".parse().expect("a name");
        let swap =
            AliasSwap { model: model.clone(), one: (AliasName::champion(), 3), other: (other, 1), why: "back".into() };
        assert_eq!(swap_from_wire(swap_to_wire(&swap)), Ok(swap));
        let protection = AliasProtection {
            model: model.clone(),
            alias: AliasName::champion(),
            approvals: 2,
            except_author: true,
            by: "alice".into(),
            why: "audit".into(),
            at: Some(DateTime::UNIX_EPOCH),
        };
        assert_eq!(protection_to_json(&protection)["except_author"], true);
        assert_eq!(protection_from_wire(protection_to_wire(&protection)), Ok(protection));
        let fields = move_from_wire(wire::SetAliasRequest::default()).expect_err("three");
        assert_eq!(fields.iter().count(), 3);
    }
}
