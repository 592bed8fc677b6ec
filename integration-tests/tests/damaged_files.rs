//! Files of a platform that are damaged, emptied or lost while it is stopped: it says which at its start, and does not continue as if
//! nothing were missing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rekindle_integration_tests::{
    Platform, Wiring, scenario,
    table::{self, csv},
};
use rekindle_store::{Config, connect, sea_orm::ConnectionTrait as _};
use rekindle_testkit::eventually;

const SHIFT: u64 = 1_000;
const SERVICES: [&str; 3] = ["registry", "monitor", "orchestrator"];

/// A platform that has trained, deployed, captured rows and reported a window.
async fn used() -> Platform {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = &platform.clients;
    scenario::register(clients, csv(&table::rows(0..48, SHIFT)), "training rows").await;
    let (_, first) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, first.version).await;
    scenario::set_policy(clients, |_| ()).await;
    let rows = table::rows(48..120, SHIFT);
    scenario::send_day_by_day(clients, &rows).await;
    scenario::captured(clients, rows.len() as u64).await;
    eventually("the report of a window", async || {
        let events = platform.json(&["events", "--all", "--no-follow", "--kind", "monitor.*.*", "--count", "1"]);
        if events.await["type"].is_string() { Ok(()) } else { Err("no event".to_owned()) }
    })
    .await;
    platform
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn restore(saved: &Path, data: &Path) {
    fs::remove_dir_all(data).expect("it exists");
    copy(saved, data);
}

/// Inverts eight bytes at a share of the length of a file.
fn damage(file: &Path, share: f64) {
    let mut bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let at = (bytes.len() as f64 * share) as usize;
    bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = !*byte);
    fs::write(file, bytes).expect("written");
}

fn files_of(data: &Path, service: &str) -> (PathBuf, PathBuf) {
    (data.join(format!("{service}.db")), data.join(format!("{service}.db-wal")))
}

/// Moves every transaction from the write-ahead log to the file of the database.
async fn checkpoint(file: &Path) {
    let config = Config { max_connections: 1, ..Config::at(format!("sqlite://{}", file.display())) };
    let db = connect(&config).await.expect("a database");
    db.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("the only connection");
    db.close().await.expect("it was open");
}

/// The refusal names the database, the reason, and what to do.
fn assert_names(refusal: &str, service: &str, reason: &str) {
    let lines: Vec<&str> = refusal.lines().filter(|line| line.starts_with("error:")).collect();
    let [line] = lines[..] else { panic!("{service}, {reason}: {refusal}") };
    assert!(line.contains(&format!("{service}.db")) && line.contains(reason), "{service}, {reason}: {line}");
    assert!(line.contains("backup"), "{service}, {reason}: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_named_at_the_start() {
    let mut platform = used().await;
    let saved = tempfile::tempdir().expect("a folder");
    let (killed, stopped, data) = (saved.path().join("killed"), saved.path().join("stopped"), platform.data_dir());
    platform.kill();
    copy(&data, &killed);
    platform.restart().await;
    platform.stop();
    for service in SERVICES {
        checkpoint(&files_of(&data, service).0).await;
    }
    copy(&data, &stopped);

    for service in SERVICES {
        let (file, wal) = files_of(&data, service);
        // Its last transactions: SQLite leaves out the log from the damage on.
        restore(&killed, &data);
        damage(&wal, 0.3);
        // Of a young database, every transaction is in the log.
        assert_names(&platform.refused_start().await, service, "lacks changes");
        restore(&killed, &data);
        fs::remove_file(&file).expect("a database");
        fs::remove_file(&wal).expect("its write-ahead log");
        assert_names(&platform.refused_start().await, service, "it was emptied or replaced");
        restore(&stopped, &data);
        fs::write(&file, []).expect("emptied");
        assert_names(&platform.refused_start().await, service, "it was emptied or replaced");
        restore(&stopped, &data);
        damage(&file, 0.0);
        assert_names(&platform.refused_start().await, service, "is damaged");
        restore(&stopped, &data);
        let size = fs::metadata(&file).expect("a file").len() as usize;
        let mut bytes = fs::read(&file).expect("a file");
        bytes[size / 3..size * 2 / 3].fill(0x5a);
        fs::write(&file, bytes).expect("written");
        assert_names(&platform.refused_start().await, service, "is damaged");
        // Nothing was changed: with the file restored it starts.
        fs::copy(files_of(&stopped, service).0, &file).expect("restored");
        platform.restart().await;
        platform.stop();
    }

    // The operator continues with an empty database, once.
    restore(&stopped, &data);
    fs::remove_file(files_of(&data, "orchestrator").0).expect("a database");
    let accepted = ("REKINDLE__ORCHESTRATOR__DATABASE__ACCEPT_DATA_LOSS".to_owned(), "true".to_owned());
    platform.restart_in(&[accepted]).await;
    assert!(platform.log().contains("the data loss is accepted"), "{}", platform.log());
    scenario::set_policy(&platform.clients, |policy| policy.model = "trains".parse().expect("a name")).await;
    eventually("the event of the policy", async || {
        let arguments = ["events", "--all", "--no-follow", "--kind", "orchestrator.policy.set"];
        let (_, events, _) = platform.command(&arguments).await;
        if events.lines().count() == 2 { Ok(()) } else { Err(events) }
    })
    .await;
    let before = platform.log().len();
    platform.kill_and_restart().await;
    assert!(!platform.log()[before..].contains("are lost"), "{}", &platform.log()[before..]);
    let status = platform.json(&["status"]).await;
    assert_eq!(status["ready"], true, "{status}");
    platform.stop();

    // The server leaves out what it cannot read.
    restore(&stopped, &data);
    damage(&data.join("nats/store/jetstream/$G/streams/REKINDLE_EVENTS/msgs/1.blk"), 0.5);
    let before = platform.log().len();
    platform.restart().await;
    eventually("the lost event to be named", async || {
        let log = platform.log().split_off(before);
        let named = log.lines().any(|line| line.contains("of the stream are lost") && line.contains("REKINDLE_EVENTS"));
        if named { Ok(()) } else { Err(log) }
    })
    .await;
    platform.stop();

    // The events that were stored last.
    restore(&stopped, &data);
    let block = data.join("nats/store/jetstream/$G/streams/REKINDLE_EVENTS/msgs/1.blk");
    fs::write(&block, &fs::read(&block).expect("a block")[..4_000]).expect("truncated");
    let before = platform.log().len();
    platform.restart().await;
    let log = platform.log().split_off(before);
    assert!(log.contains("of the service are lost"), "{log}");

    // It serves, and its next alert starts a workflow.
    let rows = table::rows(1_200..1_272, SHIFT);
    scenario::send_hour_by_hour(&platform.clients, &rows).await;
    eventually("a workflow", async || {
        let found = scenario::workflows(&platform.clients).await;
        if found.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
}
