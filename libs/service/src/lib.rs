//! What the edge of every service has: the context of a call, the errors of requests and their one mapping to gRPC status, faults with
//! an id that the log has too, and idempotent intents.
//!
//! Invariants:
//! - a request that is not valid is refused with every field violation at once, and changes nothing;
//! - UNAVAILABLE means that a retry can help; a fault is INTERNAL, its cause stays in the log, and both name the same id;
//! - a creating call has one effect per principal's namespace, method and idempotency key.

mod abbreviation;
mod audit;
mod call;
mod chain;
mod fault;
mod intent;
mod request_error;

pub use self::{
    abbreviation::only,
    audit::audit_sealed,
    call::Call,
    chain::chain,
    fault::{Fault, fault, internal, unavailable},
    intent::{Intent, MAX_KEY},
    request_error::{RequestError, status},
};
