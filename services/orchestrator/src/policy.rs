//! Setting a policy.

use rekindle_client::wire::{event, policy::to_json as policy_to_json};
use rekindle_domain::Policy;
use rekindle_service::Call;
use rekindle_store::{
    audit::{self, Change},
    in_transaction,
};

use crate::{
    Error,
    core::Core,
    store::policies::{self, Revised},
    workflow::derived_id,
};

/// Sets the policy of a model over the expected revision. Its monitoring settings are pushed to the monitor afterwards.
pub(crate) async fn set(core: &Core, call: &Call, policy: Policy, expected_revision: u64) -> Result<Revised, Error> {
    let call = call.clone();
    let revised = in_transaction(&core.db, async move |txn| {
        let before = policies::get(txn, &policy.model).await?;
        let revised = policies::set(txn, &policy, expected_revision, call.now).await?;
        let model = &revised.policy.model;
        let id = derived_id(&format!("policy/{model}/{}", revised.revision));
        let change = Call { id, ..call.clone() }.change(event::policy_set(model, revised.revision), model);
        let before = before.map(|before| policy_to_json(&before.policy, before.revision));
        audit::record(txn, Change { before, ..change }).await?;
        Ok::<_, Error>(revised)
    })
    .await?;
    tracing::info!(model = %revised.policy.model, revision = revised.revision, "policy set");
    core.wake();
    Ok(revised)
}
