//! Threads for heavy work, which give way to everything else on the machine.

use tokio::sync::oneshot;

use crate::Error;

/// The lowest scheduling priority there is on Unix.
const NICEST: i32 = 19;

/// Runs `work` on a thread of its own at the lowest priority. The result is lost, and says so, if the thread panics.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Error> {
    let (sender, receiver) = oneshot::channel();
    let body = move || {
        give_way();
        // The receiver is gone if the job was dropped; another worker then repeats the job.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name(name).spawn(body).map_err(|error| Error::Thread(error.to_string()))?;
    Ok(receiver)
}

/// Lowers the priority of the calling thread. On other systems than Linux, priorities belong to processes and are not changed.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the priority of one thread can be set by this call alone")]
fn give_way() {
    use nix::libc;
    // SAFETY: setpriority takes three integers and touches no memory; process 0 is, on Linux, the calling thread.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) } != 0;
    if failed {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "cannot lower the priority of the worker thread");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {
    tracing::debug!(NICEST, "this platform has no priority per thread");
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// The nice value of the calling thread: the 19th field of its stat, counted after the name in parentheses.
    fn niceness() -> Option<i32> {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(16)?.parse().ok()
    }

    #[tokio::test]
    async fn only_the_working_thread_gives_way() {
        let before = niceness();
        let result = spawn("work".into(), niceness).expect("a thread").await.expect("a result");
        assert_eq!(result, Some(NICEST));
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn a_panic_loses_the_result_and_nothing_else() {
        let lost = spawn::<()>("work".into(), || panic!("on purpose")).expect("a thread").await;
        assert!(lost.is_err());
    }
}
