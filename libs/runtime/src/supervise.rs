//! Tasks that are named, watched, and ended together.

use std::{any::Any, collections::HashMap, error::Error as StdError, future::Future, time::Duration};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use crate::{Error, shutdown::Shutdown};

/// How long tasks of the last phase are given once closing begins.
const CLOSING: Duration = Duration::from_secs(5);

/// A group of tasks of which none may die unnoticed: the first that fails or panics ends all.
///
/// A task of the first phase watches [`Shutdown::intake`]; one of the last phase watches [`Shutdown::work`].
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

    /// Starts a task that ends when intake stops: a server, a consumer, a reconciler.
    pub fn spawn<F, E>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        self.taking.spawn(name.into(), task);
    }

    /// Starts a task that the others need until they are done: an outbox relay, the probes' server.
    pub fn spawn_until_close<F, E>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        self.closing.spawn(name.into(), task);
    }

    /// Runs until the end begins or a task fails, then ends all in order: tasks of the first phase have `drain` to finish,
    /// those of the last phase five seconds. Returns the first failure. Tasks that end well are simply gone.
    pub async fn join(mut self, shutdown: Shutdown, drain: Duration) -> Result<(), Error> {
        let mut outcome = self.run(&shutdown).await;
        shutdown.begin();
        keep_first(&mut outcome, drain_group(&mut self.taking, drain, &shutdown).await);
        shutdown.close();
        keep_first(&mut outcome, drain_group(&mut self.closing, CLOSING, &Shutdown::new()).await);
        outcome
    }

    /// Until the end begins, a task fails, or none is left.
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

    /// The next task to end; `None` when there are none.
    async fn next(&mut self) -> Option<Result<(), Error>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = self.names.remove(&id).unwrap_or_default();
        Some(match ended {
            Ok((_, Ok(()))) => {
                tracing::debug!(task, "task ended");
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

/// Waits for the tasks of a group, at most `limit` or until closing is demanded; cuts off the rest.
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

/// The first failure is the cause; later ones are mostly its consequences, and are logged.
fn keep_first(first: &mut Result<(), Error>, next: Result<(), Error>) {
    match next {
        Err(error) if first.is_err() => tracing::error!(error = %Chain(&error), "also failed while ending"),
        Err(error) => *first = Err(error),
        Ok(()) => {}
    }
}

/// An error with its causes on one line.
struct Chain<'a>(&'a dyn StdError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What a panic said, as far as it was text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
