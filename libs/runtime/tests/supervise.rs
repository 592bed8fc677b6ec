//! Supervised tasks: propagation of failures, order of the phases, deadlines, signals.

use std::{convert::Infallible, future::pending, time::Duration};

use rekindle_runtime::{Error, shutdown::Shutdown, supervise::Tasks};
use tokio::sync::mpsc;

const DRAIN: Duration = Duration::from_secs(3600);

async fn until_intake_stops(shutdown: Shutdown) -> Result<(), Infallible> {
    shutdown.intake().cancelled().await;
    Ok(())
}

async fn until_closing(shutdown: Shutdown) -> Result<(), Infallible> {
    shutdown.work().cancelled().await;
    Ok(())
}

#[tokio::test]
async fn the_first_failure_stops_all_tasks_and_is_named() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    tasks.spawn("consumer", until_intake_stops(shutdown.clone()));
    tasks.spawn_until_close("relay", until_closing(shutdown.clone()));
    tasks.spawn("reconciler", async { Err::<(), _>(std::io::Error::other("disk full")) });
    match tasks.join(shutdown.clone(), DRAIN).await {
        Err(Error::Task { task, source }) => {
            assert_eq!((task.as_str(), source.to_string().as_str()), ("reconciler", "disk full"))
        }
        other => panic!("{other:?}"),
    }
    assert!(shutdown.work().is_cancelled());
}

#[tokio::test]
async fn a_panic_stops_all_tasks_and_is_named() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    tasks.spawn("server", until_intake_stops(shutdown.clone()));
    tasks.spawn_until_close("relay", async { panic!("{} is not expected", 42) as Result<(), Infallible> });
    match tasks.join(shutdown, DRAIN).await {
        Err(Error::Panicked { task, message }) => {
            assert_eq!((task.as_str(), message.as_str()), ("relay", "42 is not expected"))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn phases_stop_in_order() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    let (sent, mut order) = mpsc::unbounded_channel();
    for (name, is_last) in [("relay", true), ("server", false)] {
        let (shutdown, sent) = (shutdown.clone(), sent.clone());
        let task = async move {
            let phase = if is_last { shutdown.work() } else { shutdown.intake() };
            phase.cancelled().await;
            sent.send(name)
        };
        if is_last { tasks.spawn_until_close(name, task) } else { tasks.spawn(name, task) }
    }
    shutdown.begin();
    tasks.join(shutdown, DRAIN).await.expect("a clean end");
    assert_eq!((order.recv().await, order.recv().await), (Some("server"), Some("relay")));
}

#[tokio::test]
async fn a_task_may_complete_early() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    tasks.spawn("once", async { Ok::<_, Infallible>(()) });
    tasks.join(shutdown, DRAIN).await.expect("fine");
}

#[tokio::test]
async fn tasks_that_exceed_the_drain_deadline_are_aborted_and_named() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    for name in ["b", "a"] {
        tasks.spawn(name, pending::<Result<(), Infallible>>());
    }
    shutdown.begin();
    match tasks.join(shutdown, Duration::from_millis(7)).await {
        Err(Error::Unfinished { tasks, after }) => {
            assert_eq!((tasks, after.as_millis()), (vec!["a".into(), "b".into()], 7))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn closing_does_not_wait_for_the_drain() {
    let (shutdown, mut tasks) = (Shutdown::new(), Tasks::new());
    tasks.spawn("stuck", pending::<Result<(), Infallible>>());
    shutdown.close();
    assert!(matches!(tasks.join(shutdown, DRAIN).await, Err(Error::Unfinished { .. })));
}

#[tokio::test]
async fn the_first_signal_begins_and_the_second_closes() {
    let shutdown = Shutdown::on_signals().expect("signals");
    let raise = || {
        let status = std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    };
    raise();
    shutdown.intake().cancelled().await;
    assert!(!shutdown.work().is_cancelled());
    raise();
    shutdown.work().cancelled().await;
}
