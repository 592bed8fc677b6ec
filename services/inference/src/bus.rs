//! The connection to the bus, which may come after the replica has started.

use rekindle_bus::Bus;
use tokio::sync::watch;

/// Waits for the bus; `None` if it can no longer be attached.
pub(crate) async fn connected(bus: &mut watch::Receiver<Option<Bus>>) -> Option<Bus> {
    bus.wait_for(Option::is_some).await.ok().and_then(|bus| bus.clone())
}
