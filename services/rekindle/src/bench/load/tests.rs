//! Loads on functions in place of servers.

use std::future::pending;

use super::*;

const RATE: f64 = 1000.0;
const SEED: u64 = 3;
/// For requests that end.
const PATIENCE: Duration = Duration::from_secs(60);

fn plan(load: Load, requests: u64) -> Plan {
    Plan { load, warm_up: Duration::ZERO, length: Length::Requests(requests), timeout: PATIENCE }
}

fn open_loop(max_in_flight: usize) -> Load {
    Load::Open { rate: RATE, max_in_flight, seed: SEED }
}

/// Both loops.
fn loops() -> [Load; 2] {
    [Load::Closed { concurrency: 3 }, open_loop(1000)]
}

/// Counts the requests whose numbers are those of a range, each once.
async fn numbered(plan: Plan, stop: Stop) -> (Measured, Vec<usize>) {
    let sent: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sending = Arc::clone(&sent);
    let measured = run(plan, stop, move |index| {
        sending.lock().expect("no panic").push(index);
        async { Ok(1) }
    });
    let measured = measured.await.expect("a result of each");
    let mut sent = sent.lock().expect("no panic").clone();
    sent.sort_unstable();
    (measured, sent)
}

#[tokio::test]
async fn as_many_requests_as_asked_are_sent_and_each_has_a_result() {
    for load in loops() {
        let (measured, sent) = numbered(plan(load, 100), Stop::default()).await;
        assert_eq!(sent, (0..100).collect::<Vec<_>>(), "{load:?}");
        assert_eq!((measured.answered, measured.requests(), measured.received), (100, 100, 100), "{load:?}");
        assert_eq!((measured.latencies.len(), measured.warm_up), (100, 0), "{load:?}");
    }
}

#[tokio::test]
async fn requests_of_the_warm_up_are_sent_and_not_measured() {
    for load in loops() {
        let plan = Plan { warm_up: Duration::from_millis(20), ..plan(load, 10) };
        let (measured, sent) = numbered(plan, Stop::default()).await;
        assert_eq!((measured.requests(), measured.latencies.len()), (10, 10), "{load:?}");
        assert!(measured.warm_up > 0 && sent.len() as u64 == measured.warm_up + 10, "{load:?}: {}", measured.warm_up);
    }
}

/// The open loop sends exactly the arrivals of the time that is measured.
#[tokio::test]
async fn the_open_loop_sends_what_is_due_within_its_time() {
    let time = Duration::from_millis(50);
    let expected = Arrivals::new(RATE, SEED).take_while(|at| *at < time).count();
    let (measured, sent) =
        numbered(Plan { length: Length::Time(time), ..plan(open_loop(1000), 0) }, Stop::default()).await;
    assert_eq!((measured.requests(), sent.len()), (expected as u64, expected));
    assert!(measured.elapsed >= time, "the time without arrivals counts");
}

#[tokio::test]
async fn a_load_that_is_stopped_sends_no_more() {
    for load in loops() {
        let stop = Stop::default();
        stop.stop();
        let (measured, sent) = numbered(plan(load, 100), stop).await;
        assert_eq!((measured.requests(), sent.len()), (0, 0), "{load:?}");
    }
}

#[tokio::test]
async fn failures_are_counted_by_kind() {
    for load in loops() {
        let send = |index: usize| async move {
            match index % 4 {
                0 => Err(Failure::new(Kind::Grpc(8), "full")),
                1 => Err(Failure::new(Kind::Connection, "reset")),
                _ => Ok(1),
            }
        };
        let measured = run(plan(load, 100), Stop::default(), send).await.expect("a result of each");
        let kinds: Vec<_> = measured.failures.by_kind().map(|(kind, count, _)| (kind, count)).collect();
        assert_eq!(kinds, [(Kind::Grpc(8), 25), (Kind::Connection, 25)], "{load:?}");
        assert_eq!((measured.answered, measured.latencies.len()), (50, 50), "a failure has no latency: {load:?}");
    }
}

/// The first request holds the only thread until the tenth is due, so that the others are sent late. Counted from the time of sending, their
/// latencies would be close to zero.
#[tokio::test]
async fn latency_counts_from_the_time_at_which_a_request_is_due() {
    const BEHIND: usize = 10;
    let due: Vec<Duration> = Arrivals::new(RATE, SEED).take(BEHIND + 1).collect();
    let last = due[BEHIND];
    let send = move |index: usize| async move {
        let until = Instant::now() + last;
        while index == 0 && Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(1)
    };
    let measured = run(plan(open_loop(BEHIND), BEHIND as u64), Stop::default(), send).await.expect("a result of each");
    assert_eq!(measured.latencies.len(), BEHIND as u64);
    // The first request ends after the eleventh would be due, so each takes at least from its own time until then.
    for (index, at) in due[..BEHIND].iter().enumerate() {
        let wait = (last - *at).mul_f64(0.99);
        let waited = measured.latencies.count_between(nanos(wait), u64::MAX);
        assert!(waited > index as u64, "{waited} requests took {wait:?} or more, expected {}", index + 1);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("short")
}

/// No request is answered, so that all but the first find as many in flight as allowed.
#[tokio::test]
async fn a_request_without_an_answer_fails_and_those_beyond_the_cap_do() {
    let plan = Plan { timeout: Duration::from_secs(2), ..plan(open_loop(1), 5) };
    let measured = run(plan, Stop::default(), |_| pending()).await.expect("a result of each");
    let kinds: Vec<_> = measured.failures.by_kind().map(|(kind, count, _)| (kind, count)).collect();
    assert_eq!(kinds, [(Kind::Timeout, 1), (Kind::NotSent, 4)]);
    assert_eq!((measured.answered, measured.requests(), measured.latencies.len()), (0, 5, 1));
}
