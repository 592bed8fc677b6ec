//! What the benchmarks of the monitor share.

use futures::{StreamExt as _, stream};

use crate::{
    rows::Message,
    world::{MODEL, World},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Publications at once.
const AT_ONCE: usize = 64;

/// Megabytes of a line of the status of this process.
fn megabytes(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a known name");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kilobytes") * 1024.0 / 1e6
}

/// The resident memory at its peak during some work, beyond that before it.
pub(crate) struct Peak(f64);

impl Peak {
    pub(crate) fn start() -> Self {
        std::fs::write("/proc/self/clear_refs", "5").expect("the process of this user");
        Self(megabytes("VmRSS"))
    }

    pub(crate) fn megabytes(&self) -> f64 {
        megabytes("VmHWM") - self.0
    }
}

/// Publishes messages of predictions or outcomes of the model.
pub(crate) async fn publish(world: &World, what: &str, messages: impl IntoIterator<Item = Message>) {
    let subject = format!("rekindle.{what}.{MODEL}");
    let sent = messages.into_iter().map(|(id, bytes)| {
        let subject = subject.clone();
        async move { world.bus.publish(subject, &id, async_nats::HeaderMap::new(), bytes).await.expect("stored") }
    });
    stream::iter(sent).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

/// One line of the output.
pub(crate) fn print(what: &str, figures: &str) {
    println!("{what:<62} {figures}");
}
