//! Faults, one after the other; each is over when [`inflict`] returns.

use std::time::{Duration, Instant};

use proptest::{
    sample::select,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rekindle_bus::{Bus, Config as BusConfig};
use rekindle_integration_tests::{Cluster, Service, scenario};
use rekindle_testkit::{Clock, SmallDisk};
use tokio::time::sleep;

use super::ledger::{Ledger, of};

/// How long a process is suspended, or the disk full.
const LASTS: Duration = Duration::from_secs(2);

/// Jumps of the clock, in seconds: less and more than the leases and the lateness that windows allow.
const JUMPS: [i32; 4] = [-7_200, -60, 60, 7_200];

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// SIGKILL, and a restart at once.
    Kill(Service),
    /// SIGSTOP, and SIGCONT after a while.
    Suspend(Service),
    /// The same for the bus.
    SuspendBus,
    /// SIGKILL of the bus, and a restart at once.
    KillBus,
    /// No space where the databases and the objects are.
    FullDisk,
    /// The clocks of all services jump by so many seconds, and back after a while.
    JumpClock(i32),
    /// Bytes that no consumer can decode, on a subject.
    Poison(&'static str),
    /// The same as the value of a bucket's key.
    PoisonBucket(&'static str),
}

const SERVICES: [Service; 6] = [
    Service::Registry,
    Service::Trainer,
    Service::Monitor(0),
    Service::Orchestrator(0),
    Service::Inference(0),
    Service::Inference(1),
];

const SUBJECTS: [&str; 4] = [
    "rekindle.predictions.shop",
    "rekindle.outcomes.shop",
    "rekindle.jobs.train",
    "rekindle.events.monitor.drift.shop",
];
const BUCKETS: [&str; 2] = [rekindle_bus::streams::DEPLOYMENTS, rekindle_bus::streams::REPLICAS];

/// Faults that follow from a seed.
pub(crate) struct Faults {
    runner: TestRunner,
    all: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(seed: u64, has_disk: bool, has_clock: bool) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut all: Vec<Fault> =
            SERVICES.into_iter().flat_map(|one| [Fault::Kill(one), Fault::Suspend(one)]).collect();
        all.extend([Fault::SuspendBus, Fault::SuspendBus, Fault::KillBus, Fault::KillBus]);
        if has_disk {
            all.extend([Fault::FullDisk, Fault::FullDisk, Fault::FullDisk]);
        }
        if has_clock {
            all.extend(JUMPS.map(Fault::JumpClock));
        }
        all.extend(SUBJECTS.map(Fault::Poison));
        all.extend(BUCKETS.map(Fault::PoisonBucket));
        Self { runner: TestRunner::new_with_rng(Config::default(), random), all }
    }

    /// The next fault.
    pub(crate) fn next(&mut self) -> Fault {
        select(self.all.clone()).new_tree(&mut self.runner).expect("a fault").current()
    }
}

/// Causes a fault and ends it.
pub(crate) async fn inflict(
    fault: &Fault,
    cluster: &mut Cluster,
    disk: Option<&SmallDisk>,
    clock: Option<&Clock>,
    ledger: &Ledger,
) {
    match fault {
        Fault::Kill(service) => {
            if let Service::Inference(replica) = service {
                of(&ledger.kills).push((Instant::now(), *replica));
            }
            cluster.kill(*service);
            cluster.restart(*service).await;
        }
        Fault::Suspend(service) => {
            cluster.suspend(*service);
            sleep(LASTS).await;
            cluster.resume(*service);
        }
        Fault::SuspendBus => {
            cluster.nats.suspend();
            sleep(LASTS).await;
            cluster.nats.resume();
        }
        Fault::KillBus => {
            cluster.nats.kill();
            cluster.nats.restart().await;
        }
        Fault::FullDisk => {
            let disk = disk.expect("a disk of its own");
            disk.fill();
            sleep(LASTS).await;
            disk.free();
        }
        Fault::JumpClock(offset) => {
            let clock = clock.expect("a clock of its own");
            clock.set(*offset);
            sleep(LASTS).await;
            clock.set(0);
        }
        Fault::Poison(subject) => {
            let bus = connect(cluster).await;
            bus.client().publish(*subject, b"\xff\x00 no message".to_vec().into()).await.expect("sent");
            bus.client().flush().await.expect("sent");
        }
        Fault::PoisonBucket(bucket) => {
            let bus = connect(cluster).await;
            let store = bus.jetstream().get_key_value(*bucket).await.expect("the bucket");
            store.put(scenario::MODEL, b"\xff\x00 no value".to_vec().into()).await.expect("stored");
        }
    }
}

async fn connect(cluster: &Cluster) -> Bus {
    Bus::connect(&BusConfig::at(cluster.clients.nats.clone())).await.expect("the bus runs")
}
