//! The connections of a port: how many are open, and when those end that nobody uses.

use std::{
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a client may take to close a connection after GOAWAY or `connection: close`.
const GOODBYE: Duration = Duration::from_secs(5);
/// Interval at which idle connections are closed while others wait for a place.
const CROWDED: Duration = Duration::from_millis(500);

/// Limits of the connections of a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open connections. Further ones wait: connections without a call close to make room.
    pub(crate) open: usize,
    /// Time within which the first call must begin.
    pub(crate) first_call: Duration,
    /// Time without a call after which a connection closes.
    pub(crate) idle: Duration,
}

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    calls: AtomicUsize,
    /// When the last call ended or, before the first one, when the connection was opened.
    quiet_since: Mutex<Instant>,
    has_called: AtomicUsize,
}

impl Activity {
    fn new() -> Self {
        Self { calls: AtomicUsize::new(0), quiet_since: Mutex::new(Instant::now()), has_called: AtomicUsize::new(0) }
    }

    /// A call begins.
    pub(crate) fn enter(&self) {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.has_called.store(1, Ordering::Release);
    }

    /// A call ends.
    pub(crate) fn leave(&self) {
        if self.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Since when the connection has had no call, unless it has one.
    fn quiet_since(&self) -> Option<Instant> {
        let since = *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.calls.load(Ordering::Acquire) == 0).then_some(since)
    }

    /// Waits until the connection has been idle for too long, or idle at all while others wait for a place.
    async fn idle(&self, limits: Limits, crowded: &Notify) {
        loop {
            let limit = if self.has_called.load(Ordering::Acquire) == 0 { limits.first_call } else { limits.idle };
            let now = Instant::now();
            let end = self.quiet_since().unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::select! {
                () = sleep_until(end) => {}
                () = crowded.notified() => {
                    if self.quiet_since().is_some_and(|since| since.elapsed() >= CROWDED) {
                        return;
                    }
                }
            }
        }
    }
}

/// Accepts connections until `closing`, and waits for them to end. Dropped before that, it closes them.
pub(crate) async fn serve<C>(
    listener: TcpListener,
    limits: Limits,
    closing: CancellationToken,
    open: impl Fn(TcpStream, Arc<Activity>) -> C,
) where
    C: GracefulConnection + Send + 'static,
{
    let (places, crowded) = (Arc::new(Semaphore::new(limits.open)), Arc::new(Notify::new()));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = accept(&listener, &places, &crowded) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, place) = accepted;
        let activity = Arc::new(Activity::new());
        let connection = open(stream, Arc::clone(&activity));
        connections.spawn(run(connection, activity, limits, closing.clone(), Arc::clone(&crowded), place));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is a place for it. Until then it waits in the queue of the listener.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    crowded: &Notify,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = loop {
        match timeout(CROWDED, Arc::clone(places).acquire_owned()).await {
            Ok(place) => break place.expect("the semaphore is never closed"),
            Err(_) => crowded.notify_waiters(),
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it, small frames wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                sleep(CROWDED).await;
            }
        }
    }
}

/// Whether an error is about one connection, and not about the process, e.g. its number of open files.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn run(
    connection: impl GracefulConnection,
    activity: Arc<Activity>,
    limits: Limits,
    closing: CancellationToken,
    crowded: Arc<Notify>,
    _place: OwnedSemaphorePermit,
) {
    let mut connection = pin!(connection);
    let is_closing = tokio::select! {
        // A connection may end in any way: its calls have recorded their own ends.
        _ = connection.as_mut() => return,
        () = closing.cancelled() => true,
        () = activity.idle(limits, &crowded) => false,
    };
    connection.as_mut().graceful_shutdown();
    if is_closing {
        let _ = connection.await;
        return;
    }
    while timeout(GOODBYE, connection.as_mut()).await.is_err() {
        if activity.quiet_since().is_some() {
            return;
        }
    }
}
