//! Every call of every service, with messages that are generated from the descriptors: plausible ones, and the same with one field that
//! no client would send. Each is answered or refused for a reason that the caller can mend, and none costs more than its size allows.

mod messages;
mod wire;

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rekindle_client::{PageRequest, registry::UploadPurpose};
use rekindle_integration_tests::{Platform, Wiring};
use tonic::{Code, Status};

use crate::messages::Generated;

/// What a call may take beside eight times the bytes of its request.
const ALLOWANCE: u64 = 32 << 20;

/// Calls that take less are not compared with a valid one: their times are those of the machine.
const COMPARED: Duration = Duration::from_millis(20);

/// How long a valid message of so many bytes takes: a plausible one with an unknown field, the shortest of three times.
async fn valid_time(channel: tonic::transport::Channel, method: &MethodDescriptor, size: usize) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        // Refused for what it names, as a rule.
        let _ = wire::call(channel.clone(), method, messages::valid(method, size)).await;
        shortest = shortest.min(started.elapsed());
    }
    shortest
}

/// What a platform is asked: every method of ours.
fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(rekindle_proto::DESCRIPTORS).expect("descriptors");
    let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() > 30, "{}", methods.len());
    methods
}

/// A field of `/proc/PID/status`, in bytes.
fn memory(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    let kib: u64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number");
    kib << 10
}

/// Whether the caller can mend what a status says, or nothing is wrong.
fn is_for_the_caller(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_answered_or_refused_within_its_memory_whatever_it_is_sent() {
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    let process = platform.process_id();
    let (control, replica) = (platform.clients.registry.clone(), format!("http://{}", platform.clients.inference[0]));
    let (mut problems, mut calls, mut most) = (Vec::new(), 0, 0.0_f64);
    let (mut slowest, mut most_over_valid) = ((Duration::ZERO, String::new()), (0.0_f64, String::new()));
    for method in methods() {
        let is_inference = method.parent_service().full_name() == "inference.GRPCInferenceService";
        let channel = wire::connect(if is_inference { &replica } else { &control }).await;
        for Generated { what, bytes } in messages::of(&method) {
            // Sets the peak of the resident memory to what is resident now.
            fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the process of this test's user");
            let (size, before) = (bytes.len() as u64, memory(process, "VmRSS"));
            let started = Instant::now();
            let outcome = wire::call(channel.clone(), &method, bytes).await;
            let elapsed = started.elapsed();
            let taken = memory(process, "VmHWM").saturating_sub(before);
            if elapsed >= COMPARED {
                let valid = valid_time(channel.clone(), &method, size as usize).await;
                let ratio = elapsed.as_secs_f64() / valid.as_secs_f64();
                if ratio > most_over_valid.0 {
                    most_over_valid = (ratio, format!("{}, {what}: {elapsed:?}", method.full_name()));
                }
            }
            slowest = slowest.max((elapsed, format!("{}, {what}", method.full_name())));
            let allowed = 8 * size + ALLOWANCE;
            most = most.max(taken as f64 / allowed as f64);
            calls += 1;
            let name = method.full_name();
            match outcome {
                Err(status) if !is_for_the_caller(&status) => {
                    let message: String = status.message().chars().take(200).collect();
                    problems.push(format!("{name}, {what}: {:?} {message}", status.code()));
                }
                Err(status) if status.message().len() + status.details().len() > 4096 => {
                    problems.push(format!("{name}, {what}: a status of more than 4 KiB"));
                }
                _ if taken > allowed => {
                    problems.push(format!("{name}, {what}: {size} bytes take {taken}, more than {allowed}"));
                }
                _ => {}
            }
        }
        platform.assert_running();
    }
    println!(
        "{calls} calls; the most memory that one took is {:.0} % of what it may; slowest: {slowest:?}; the longest in relation to a valid \
         message of its size: {most_over_valid:?}",
        most * 100.0
    );
    assert!(problems.is_empty(), "{} of {calls} calls:\n{}", problems.len(), problems.join("\n"));
    assert!(!platform.log().contains("panicked"), "a call panicked");
    let (code, out, err) = platform.command(&["status"]).await;
    assert_eq!(code, 0, "the platform is ready afterwards: {out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_that_stall_hold_a_bounded_part_of_their_blob() {
    const BLOB: usize = 100 << 20;
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    let process = platform.process_id();
    let registry = platform.clients.registry();
    let (digest, _) = registry.upload_bytes(UploadPurpose::Blob, vec![7; BLOB].into()).await.expect("stored");
    let before = memory(process, "VmRSS");
    let mut stalled = Vec::new();
    for _ in 0..40 {
        // A connection each.
        let mut download = Box::pin(platform.clients.registry().download(digest).await.expect("begins"));
        download.next().await.expect("a first chunk").expect("is read");
        stalled.push(download);
    }
    registry.datasets(PageRequest::default()).await.expect("other calls are served");
    let each = memory(process, "VmHWM").saturating_sub(before) / stalled.len() as u64;
    println!("a stalled download of {BLOB} bytes holds {each}");
    assert!(each < 8 << 20, "a stalled download holds {each} bytes");
    platform.assert_running();
}
