//! Supervised tasks: named, watched, and stopped together.

use std::{any::Any, collections::HashMap, error::Error as StdError, future::Future, time::Duration};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use crate::{Error, shutdown::Shutdown};

/// Deadline of the tasks of the last phase, from the start of closing.
const CLOSING: Duration = Duration::from_secs(5);

/// A group of tasks. The first one that fails or panics shuts all of them down.
///
/// A task of the first phase stops on [`Shutdown::intake`], one of the last phase on [`Shutdown::work`].
#[derive(Debug, Default)]
pub struct Tasks {
    taking: Group,
    closing: Group,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task of the first phase: a server, a consumer, a reconciler.
    pub fn spawn<F, E>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        self.taking.spawn(name.into(), task);
    }

    /// Starts a task of the last phase, which the others need until they are done: an outbox relay, the admin server.
    pub fn spawn_until_close<F, E>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        self.closing.spawn(name.into(), task);
    }

    /// Runs until shutdown begins or a task fails, then stops the tasks in order: those of the first phase have `drain` to
    /// complete, those of the last phase five seconds. Returns the first failure. A task may complete early without effect on
    /// the others.
    pub async fn join(mut self, shutdown: Shutdown, drain: Duration) -> Result<(), Error> {
        let mut outcome = self.run(&shutdown).await;
        shutdown.begin();
        keep_first(&mut outcome, drain_group(&mut self.taking, drain, &shutdown).await);
        shutdown.close();
        keep_first(&mut outcome, drain_group(&mut self.closing, CLOSING, &Shutdown::new()).await);
        outcome
    }

    /// Until shutdown begins, a task fails, or none is left.
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        while !(self.taking.is_empty() && self.closing.is_empty()) {
            tokio::select! {
                () = shutdown.intake().cancelled() => break,
                Some(ended) = self.taking.next() => ended?,
                Some(ended) = self.closing.next() => ended?,
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Group {
    tasks: JoinSet<Result<(), Box<dyn StdError + Send + Sync>>>,
    names: HashMap<Id, String>,
}

impl Group {
    fn spawn<F, E>(&mut self, name: String, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let handle = self.tasks.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The result of the next task to complete; `None` when there are no tasks.
    async fn next(&mut self) -> Option<Result<(), Error>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = self.names.remove(&id).unwrap_or_default();
        Some(match ended {
            Ok((_, Ok(()))) => {
                tracing::debug!(task, "task completed");
                Ok(())
            }
            Ok((_, Err(source))) => Err(Error::Task { task, source }),
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(Error::Panicked { task, message: panic_message(error.into_panic().as_ref()) }),
        })
    }

    async fn abort(&mut self) -> Vec<String> {
        let mut names: Vec<String> = self.names.drain().map(|(_, name)| name).collect();
        names.sort();
        self.tasks.shutdown().await;
        names
    }
}

/// Waits for the tasks of a group until `limit` has passed or closing begins; aborts the rest.
async fn drain_group(group: &mut Group, limit: Duration, shutdown: &Shutdown) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            ended = timeout_at(deadline, group.next()) => match ended {
                Ok(None) => return outcome,
                Ok(Some(ended)) => keep_first(&mut outcome, ended),
                Err(_) => break,
            },
            () = shutdown.work().cancelled() => break,
        }
    }
    let tasks = group.abort().await;
    if !tasks.is_empty() {
        keep_first(&mut outcome, Err(Error::Unfinished { tasks, after: limit }));
    }
    outcome
}

/// The first failure is returned; later ones are usually its consequences and are logged.
fn keep_first(first: &mut Result<(), Error>, next: Result<(), Error>) {
    match next {
        Err(error) if first.is_err() => {
            tracing::error!(error = &error as &dyn StdError, "another task failed during shutdown");
        }
        Err(error) => *first = Err(error),
        Ok(()) => {}
    }
}

/// The message of a panic, if it is text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
