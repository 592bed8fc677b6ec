//! `rekindle demo` on a file of the user: it writes a report and a summary of the documented form.

use std::path::Path;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rekindle_integration_tests::{
    process::{Process, program},
    table::{self, csv},
};
use rekindle_testkit::eventually;
use serde_json::Value;

/// Runs the demonstration on three days of training rows and four of traffic; returns its summary and its report.
async fn demo(target: &str, ignore: &str) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("shop visits.csv");
    std::fs::write(&data, csv(&table::rows(0..168, 72))).expect("a file");
    let out = folder.path().join("out");
    let output = tokio::process::Command::new(program())
        .args(["demo", "--target", target, "--ignore", ignore, "--time", "time", "--train-until", "2024-01-04"])
        .args(["--label-delay", "30m", "--replicas", "2", "--replay-for", "40s"])
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .output()
        .await
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let summary: Value = serde_json::from_str(&read("summary.json")).expect("JSON");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("the summary is printed too");
    assert_eq!(summary, printed);
    (summary, read("report.html"))
}

fn check(summary: &Value, report: &str, scores: [&str; 2]) {
    let rows = 96 * table::ROWS_PER_HOUR;
    assert_eq!((&summary["requests"], &summary["rows"]), (&rows.into(), &rows.into()));
    assert_eq!(summary["failed_requests"], 0);
    assert!(summary["events_published"].as_u64() > Some(0) && summary["seconds"].as_f64() > Some(40.0));
    let workflows = summary["workflows"].as_array().expect("a list");
    for key in ["id", "trigger", "state", "queued_at", "serving_everywhere_at", "from_version", "to_version"] {
        assert!(workflows.iter().all(|workflow| workflow.get(key).is_some()), "{key}: {workflows:?}");
    }
    let succeeded = workflows.iter().any(|workflow| workflow["state"] == "SUCCEEDED");
    assert!(succeeded, "the rows shifted, and a workflow replaced the model: {summary}");
    assert!(summary["time_to_respond_s"].is_number());
    for score in scores {
        assert!(summary["live"][score].is_number() && summary["static"][score].is_number(), "{score}: {summary}");
    }
    let (live, unchanged) = (summary["live"][scores[0]].as_f64(), summary["static"][scores[0]].as_f64());
    assert!(live < unchanged, "{live:?} live, {unchanged:?} with the first model");
    for heading in ["Quality per window", "Drift per feature over time", "Workflows", "Versions", "Timeline"] {
        assert!(report.contains(heading), "{heading}");
    }
    for sentence in ["The data: ", "The platform: 2 replicas answered ", "The result: "] {
        assert!(report.contains(sentence), "{sentence}");
    }
    for fetched in ["<script", "src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!report.contains(fetched), "self-contained: {fetched}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classification() {
    let (summary, report) = demo("bought", "").await;
    check(&summary, &report, ["log_loss", "auc"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression() {
    let (summary, report) = demo("temperature", "bought").await;
    check(&summary, &report, ["mae", "rmse"]);
}

/// Six years of one row a day, in which nothing shifts: no model is deployed, and the demonstration says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daily_series_ends_with_the_reason_for_which_nothing_was_deployed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, out) = (folder.path().join("daily.csv"), folder.path().join("out"));
    let mut rows = table::rows(0..36, u64::MAX);
    let first = table::EPOCH_MS - i64::try_from(rows.len()).expect("few rows") * table::DAY_MS;
    for (day, row) in (0..).zip(&mut rows) {
        row.time_ms = first + day * table::DAY_MS;
    }
    std::fs::write(&data, csv(&rows)).expect("a file");
    let output = tokio::process::Command::new(program())
        .args(["demo", "--target", "bought", "--time", "time", "--train-until", "2020-01-01"])
        .args(["--replicas", "1", "--replay-for", "10s", "--on", "drift,degradation"])
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .output()
        .await
        .expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("windows of 364 days"), "whole years, so that seasons do not count as drift: {printed}");
    let reason = printed.lines().find(|line| line.contains("no redeployment: of ")).expect("a reason");
    assert!(reason.contains(" windows none has drifted or degraded; "), "{reason}");
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(report.contains("none has drifted or degraded"), "the report gives the reason too");
}

/// The command lines of the processes that work in a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("UTF-8");
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(folder)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_demonstration_leaves_no_process_behind() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("visits.csv");
        std::fs::write(&data, csv(&table::rows(0..168, 72))).expect("a file");
        let out = folder.path().join("out");
        let paths = ["--data", data.to_str().expect("UTF-8"), "--out", out.to_str().expect("UTF-8")];
        let options = ["--target", "bought", "--time", "time", "--train-until", "2024-01-04", "--replicas", "1"];
        let arguments: Vec<String> =
            ["demo"].iter().chain(&options).chain(&paths).map(|&text| text.to_owned()).collect();
        let demo = Process::start(&arguments, &folder.path().join("demo.log"));
        eventually("the demonstration, its platform and its bus to run", async || {
            let found = processes_in(folder.path());
            let is_ready = out.join("platform/endpoints.json").exists();
            if found.len() == 3 && is_ready { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        kill(Pid::from_raw(demo.id().try_into().expect("small")), signal).expect("it runs");
        eventually("all of them to end", async || match processes_in(folder.path()) {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    }
}
