//! The context of a call: who calls, in which namespace, when, and on whose behalf.

use chrono::{DateTime, SubsecRound as _, Utc};
use rekindle_client::{CAUSATION_ID, CORRELATION_ID, NAMESPACE, PRINCIPAL, wire::field};
use rekindle_domain::{
    Namespace, Principal, Qualified,
    audit::Entry,
    event::{EventContext, Fact},
    validation::{Checks, Violations},
};
use rekindle_store::{audit::Change, outbox::NewEvent};
use serde_json::Value;
use tonic::{Request, metadata::MetadataMap};
use uuid::Uuid;

use crate::RequestError;

/// The context of one call. Time and id are made here, at the edge, and are inputs of everything behind it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller, as it states itself; anonymous if it does not.
    pub principal: Principal,
    /// The namespace of the request's unqualified names, and of what a list returns.
    pub namespace: Namespace,
    /// On whose behalf.
    pub context: EventContext,
    /// When the call arrived, in microseconds, the precision that every database keeps.
    pub now: DateTime<Utc>,
    /// A fresh id: of the event that the call causes, or of what it creates.
    pub id: Uuid,
}

impl Call {
    /// Splits a request into its context and its message.
    pub fn open<M>(request: Request<M>) -> Result<(Self, M), RequestError> {
        let call = Self::of(request.metadata(), Utc::now(), Uuid::now_v7())?;
        Ok((call, request.into_inner()))
    }

    /// The context that metadata holds. Correlation ids that are not plain text are ignored.
    pub fn of(metadata: &MetadataMap, now: DateTime<Utc>, id: Uuid) -> Result<Self, Violations> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut checks = Checks::new();
        let principal = match text(PRINCIPAL) {
            "" => Some(Principal::anonymous()),
            subject => checks.parsed(PRINCIPAL, subject.parse()),
        };
        let namespace = match text(NAMESPACE) {
            "" => Some(Namespace::default()),
            name => checks.parsed(NAMESPACE, name.parse()),
        };
        checks.finish()?;
        let context = EventContext {
            correlation_id: text(CORRELATION_ID).to_owned(),
            causation_id: text(CAUSATION_ID).to_owned(),
        };
        Ok(Self {
            principal: principal.unwrap_or_else(Principal::anonymous),
            namespace: namespace.unwrap_or_default(),
            context,
            now: now.trunc_subsecs(6),
            id,
        })
    }

    /// A name of the request: within the namespace of the call, unless it is qualified.
    pub fn qualify<N: Qualified>(&self, name: N) -> N {
        name.or_within(&self.namespace)
    }

    /// The name in a field of the request, [qualified](Self::qualify).
    pub fn name<N: Qualified>(&self, field: &str, text: &str) -> Result<N, Violations> {
        Ok(self.qualify(field::parse(field, text)?))
    }

    /// The same of a field that may be empty.
    pub fn optional_name<N: Qualified>(&self, field: &str, text: &str) -> Result<Option<N>, Violations> {
        Ok(field::parse_optional(field, text)?.map(|name| self.qualify(name)))
    }

    /// The change that this call makes, with the event that reports it.
    pub fn change(&self, fact: Fact<Value>, partition_key: impl ToString) -> Change {
        let event = NewEvent {
            id: self.id,
            kind: fact.kind,
            name: fact.name,
            data: fact.data,
            context: self.context.clone(),
            partition_key: partition_key.to_string(),
            time: self.now,
        };
        Change { event, actor: self.principal.to_string(), before: None }
    }

    /// The entry of the audit trail for a change without an event.
    pub fn entry(&self, action: &str, object: impl ToString) -> Entry {
        Entry {
            request_id: self.id,
            actor: self.principal.to_string(),
            action: action.to_owned(),
            object: object.to_string(),
            before: String::new(),
            after: String::new(),
            reason: String::new(),
            correlation_id: self.context.correlation_id.clone(),
            time: self.now,
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::ModelName;

    use super::*;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for &(key, value) in pairs {
            metadata.insert(key, value.parse().expect("ascii"));
        }
        metadata
    }

    #[test]
    fn a_call_without_metadata_is_anonymous_in_the_default_namespace() {
        let call = Call::of(&MetadataMap::new(), DateTime::UNIX_EPOCH, Uuid::nil()).expect("valid");
        assert!(call.principal.is_anonymous() && call.namespace.is_default());
        assert_eq!(call.context, EventContext::default());
    }

    #[test]
    fn unqualified_names_are_in_the_namespace_of_the_call() {
        let mut request = Request::new(7);
        request.metadata_mut().insert(NAMESPACE, "team-a".parse().expect("ascii"));
        let (call, message) = Call::open(request).expect("a valid namespace");
        assert_eq!(message, 7);
        for (given, expected) in [("churn", "team-a.churn"), ("team-b.churn", "team-b.churn")] {
            let name: ModelName = call.name("model", given).expect(given);
            assert_eq!(name.as_str(), expected);
        }
        assert_eq!(call.optional_name::<ModelName>("model", "").expect("empty"), None);
        let refused = call.name::<ModelName>("model", "A").expect_err("upper case");
        assert!(refused.to_string().starts_with("model"), "{refused}");
    }

    #[test]
    fn identity_and_correlation_are_read_and_bad_ones_named() {
        let given =
            metadata(&[(PRINCIPAL, "alice"), (NAMESPACE, "team-a"), (CORRELATION_ID, "w"), (CAUSATION_ID, "e")]);
        let call = Call::of(&given, DateTime::UNIX_EPOCH, Uuid::nil()).expect("valid");
        assert_eq!((call.principal.as_str(), call.namespace.as_str()), ("alice", "team-a"));
        assert_eq!((call.context.correlation_id.as_str(), call.context.causation_id.as_str()), ("w", "e"));
        let bad = metadata(&[(NAMESPACE, "Team A")]);
        let violations = Call::of(&bad, DateTime::UNIX_EPOCH, Uuid::nil()).expect_err("not a name");
        assert!(violations.to_string().starts_with(NAMESPACE), "{violations}");
    }
}
