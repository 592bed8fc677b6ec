//! Generates load: a closed loop, in which each request follows the answer to the one before, or an open loop, in which requests are due
//! at the times of a Poisson process, whatever the server does.
//!
//! In the open loop, latency is counted from the time at which a request is due. Whatever delays it counts, on this side too: with latencies
//! from the time of sending, the waits behind a slow request would be omitted (coordinated omission). A request that is due while as many
//! as allowed are in flight fails. It is not kept for later: such requests would be sent when their time is nearly over, and the server would
//! be measured with nothing else.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::timeout_at,
};

use super::{
    arrivals::Arrivals,
    failure::{Failure, Kind},
    measured::{Measured, Sample},
};

/// How often a wait for the next arrival looks whether the load was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub load: Load,
    /// Requests that are due before are sent and not measured.
    pub warm_up: Duration,
    pub length: Length,
    /// From the time at which a request is due. One that has no answer by then fails.
    pub timeout: Duration,
}

/// When requests are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// As soon as another one of `concurrency` has ended.
    Closed { concurrency: usize },
    /// At the times of a Poisson process with `rate` requests per second. `max_in_flight` at most are in flight.
    Open { rate: f64, max_in_flight: usize, seed: u64 },
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// What is due within this time.
    Time(Duration),
    /// This many requests.
    Requests(u64),
}

/// Ends a load early; clones share it. Requests in flight are awaited.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Generates a load of requests, each with its number from 0, whose result is the bytes of the answer.
pub(crate) async fn run<F, S>(plan: Plan, stop: Stop, send: S) -> Result<Measured>
where
    F: Future<Output = Result<usize, Failure>> + Send + 'static,
    S: Fn(usize) -> F + Send + Sync + 'static,
{
    let load = plan.load;
    let run = Arc::new(Run {
        send,
        stop,
        began: Instant::now(),
        due: AtomicUsize::new(0),
        to_measure: AtomicU64::new(0),
        measured: Mutex::new(Measured::nothing()?),
        plan,
    });
    match load {
        Load::Closed { concurrency } => closed(&run, concurrency).await?,
        Load::Open { rate, max_in_flight, seed } => open(&run, Arrivals::new(rate, seed), max_in_flight).await?,
    }
    run.finish()
}

struct Run<S> {
    plan: Plan,
    stop: Stop,
    send: S,
    began: Instant,
    /// Requests that were due, those of the warm-up included.
    due: AtomicUsize,
    /// Requests that were due after the warm-up, if their number is limited.
    to_measure: AtomicU64,
    measured: Mutex<Measured>,
}

/// A request that is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    index: usize,
    at: Instant,
    is_measured: bool,
}

async fn closed<F, S>(run: &Arc<Run<S>>, concurrency: usize) -> Result<()>
where
    F: Future<Output = Result<usize, Failure>> + Send + 'static,
    S: Fn(usize) -> F + Send + Sync + 'static,
{
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let run = Arc::clone(run);
        workers.spawn(async move {
            while let Some(due) = run.due(run.began.elapsed()) {
                run.request(due).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker ended")?;
    }
    Ok(())
}

/// Sends requests at their times from a thread of its own: the timers of the runtime are exact to a millisecond only.
async fn open<F, S>(run: &Arc<Run<S>>, arrivals: Arrivals, max_in_flight: usize) -> Result<()>
where
    F: Future<Output = Result<usize, Failure>> + Send + 'static,
    S: Fn(usize) -> F + Send + Sync + 'static,
{
    let permits = Arc::new(Semaphore::new(max_in_flight));
    let pacing = {
        let (run, permits) = (Arc::clone(run), Arc::clone(&permits));
        spawn_blocking(move || pace(&run, arrivals, &permits))
    };
    pacing.await.context("the thread that paces the requests ended")?;
    let all = u32::try_from(max_in_flight).context("--max-in-flight")?;
    // Every request has ended.
    permits.acquire_many(all).await.context("the semaphore is closed")?.forget();
    Ok(())
}

fn pace<F, S>(run: &Arc<Run<S>>, arrivals: Arrivals, permits: &Arc<Semaphore>)
where
    F: Future<Output = Result<usize, Failure>> + Send + 'static,
    S: Fn(usize) -> F + Send + Sync + 'static,
{
    wake_precisely();
    let runtime = Handle::current();
    for arrival in arrivals {
        let Some(due) = run.due(arrival) else { return };
        if !wait_until(due.at, &run.stop) {
            run.withdraw(due);
            return;
        }
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => {
                let run = Arc::clone(run);
                runtime.spawn(async move {
                    run.request(due).await;
                    drop(permit);
                });
            }
            Err(_) => run.record(due, Instant::now(), Err(not_sent())),
        }
    }
}

/// Waits until a time. Returns whether it came before the stop.
fn wait_until(time: Instant, stop: &Stop) -> bool {
    while !stop.is_stopped() {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
    false
}

/// Makes the sleeps of this thread end on time instead of up to 50 microseconds late.
fn wake_precisely() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_timerslack(1) {
        tracing::debug!(%error, "the timer slack is that of the system");
    }
}

fn not_sent() -> Failure {
    Failure::new(Kind::NotSent, "as many requests as allowed were in flight (--max-in-flight)")
}

impl<F, S> Run<S>
where
    F: Future<Output = Result<usize, Failure>> + Send + 'static,
    S: Fn(usize) -> F + Send + Sync + 'static,
{
    /// Makes a request and records it.
    async fn request(&self, due: Due) {
        let sent = Instant::now();
        let answer = timeout_at((due.at + self.plan.timeout).into(), (self.send)(due.index)).await;
        let waited = || humantime::format_duration(self.plan.timeout);
        let no_answer = |_| Err(Failure::new(Kind::Timeout, format!("no answer within {} (--timeout)", waited())));
        self.record(due, sent, answer.unwrap_or_else(no_answer));
    }
}

impl<S> Run<S> {
    /// The request that is due at a time from the start; `None` after the last one.
    fn due(&self, at: Duration) -> Option<Due> {
        let is_measured = at >= self.plan.warm_up;
        let is_over = self.stop.is_stopped()
            || match self.plan.length {
                Length::Time(time) => at >= self.plan.warm_up + time,
                Length::Requests(most) => is_measured && self.to_measure.fetch_add(1, Relaxed) >= most,
            };
        let index = || self.due.fetch_add(1, Relaxed);
        (!is_over).then(|| Due { index: index(), at: self.began + at, is_measured })
    }

    /// A request that was not due yet when the load was stopped.
    fn withdraw(&self, _: Due) {
        self.due.fetch_sub(1, Relaxed);
    }

    fn record(&self, due: Due, sent: Instant, result: Result<usize, Failure>) {
        let now = Instant::now();
        let mut measured = self.locked();
        if !due.is_measured {
            measured.warm_up += 1;
            return;
        }
        measured.add(Sample {
            delay: sent.saturating_duration_since(due.at),
            latency: now.saturating_duration_since(due.at),
            ended: now.saturating_duration_since(self.began + self.plan.warm_up),
            result,
        });
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) -> Result<Measured> {
        let mut measured = self.locked().clone();
        let (due, ended) = (self.due.load(Relaxed) as u64, measured.warm_up + measured.requests());
        ensure!(due == ended, "of {due} requests {ended} have a result");
        if let (Length::Time(time), false) = (self.plan.length, self.stop.is_stopped()) {
            measured.elapsed = measured.elapsed.max(time);
        }
        Ok(measured)
    }
}
