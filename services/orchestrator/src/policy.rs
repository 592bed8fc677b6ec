//! Setting a policy.

use chrono::{DateTime, Utc};
use rekindle_domain::event::EventKind;
use rekindle_proto::{client::Context, events::PolicySet, json, orchestrator::SetPolicyRequest};
use rekindle_store::{
    in_transaction,
    outbox::{self, NewEvent},
};

use crate::{
    Error,
    core::Core,
    store::policies::{self, Revised},
    wire::policy_from_wire,
    workflow::derived_id,
};

/// Sets a model's policy over the revision that the caller has read. The monitor hears of its watch a little later.
pub(crate) async fn set(
    core: &Core,
    request: SetPolicyRequest,
    context: Context,
    now: DateTime<Utc>,
) -> Result<Revised, Error> {
    let given = request.policy.ok_or_else(|| Error::invalid("policy", "is missing"))?;
    let policy = policy_from_wire(given)?;
    let revised = in_transaction(&core.db, async move |txn| {
        let revised = policies::set(txn, &policy, request.expected_revision).await?;
        outbox::enqueue(txn, told(&revised, context.clone(), now)).await?;
        Ok::<_, Error>(revised)
    })
    .await?;
    tracing::info!(model = %revised.policy.model, revision = revised.revision, "policy set");
    core.wake();
    Ok(revised)
}

fn told(revised: &Revised, context: Context, now: DateTime<Utc>) -> NewEvent {
    let model = revised.policy.model.to_string();
    let data = PolicySet { model: model.clone(), revision: revised.revision };
    NewEvent {
        id: derived_id(&format!("policy/{model}/{}", revised.revision)),
        kind: EventKind::POLICY_SET,
        name: model.clone(),
        data: json::to_value(&data),
        context,
        partition_key: model,
        time: now,
    }
}
