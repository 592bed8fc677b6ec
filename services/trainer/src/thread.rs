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
        let result = work();
        // The receiver is gone if the job was dropped; another worker then repeats the job.
        let _ = sender.send(result);
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
    use std::cell::Cell;

    use rekindle_dataset::read_csv;
    use rekindle_domain::{
        Recipe,
        recipe::{MlpRecipe, ModelRecipe},
    };
    use rekindle_testkit::eventually;
    use rekindle_training::{Origin, Supervisor, TrainInput, train_under};

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

    /// Resident memory of this process in bytes.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
    }

    /// Stops a training after three steps.
    #[derive(Default)]
    struct ThreeSteps(Cell<u32>);

    impl Supervisor for ThreeSteps {
        fn should_stop(&self) -> bool {
            self.0.replace(self.0.get() + 1) == 3
        }
    }

    /// Trains a network of 50 MB of weights for three steps.
    fn train_a_little() -> bool {
        let rows: String = (0..200).map(|row| format!("{},{}\n", row * 37 % 100, row % 2)).collect();
        let table = read_csv(format!("x,late\n{rows}").into()).expect("a table");
        let mlp = MlpRecipe { hidden: vec![2048; 4], ..MlpRecipe::default() };
        let mut recipe = Recipe { model: ModelRecipe::Mlp(mlp), ..Recipe::for_target("late") };
        recipe.model.optimizer_mut().batch_size = 16;
        let origin = Origin { run_id: String::new(), dataset_digests: vec![], code_revision: String::new() };
        let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
        let trained = train_under(&input, &origin, None, &ThreeSteps::default());
        matches!(trained, Err(rekindle_training::Error::Stopped { .. }))
    }

    /// As in the program.
    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[tokio::test]
    async fn memory_is_returned_when_the_work_is_done() {
        let before = resident();
        let is_stopped = spawn("work".into(), train_a_little).expect("a thread").await.expect("a result");
        assert!(is_stopped);
        eventually("the memory to be returned", async || {
            let kept = resident().saturating_sub(before);
            if kept < 64 << 20 { Ok(()) } else { Err(format!("{} MiB are kept", kept >> 20)) }
        })
        .await;
    }

    #[tokio::test]
    async fn a_panic_loses_the_result_and_nothing_else() {
        let lost = spawn::<()>("work".into(), || panic!("on purpose")).expect("a thread").await;
        assert!(lost.is_err());
    }
}
