//! One replica over real gRPC, with a real bus, a real object store and really trained bundles.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod answering;
mod logging;
mod readiness;
mod serving;
mod support;
