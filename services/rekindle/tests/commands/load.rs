//! Load tests, and the advice that follows from them.

use rekindle_testkit::eventually;
use serde_json::{Value, json};

use crate::world::{World, alone};

/// Rows that the platform has predicted.
const ROWS: &str = "rekindle_inference_rows_total{model=\"tips\"}";

/// `bench`: both bindings, both loops, rows of a file and generated ones. The replica counts as many rows as the reports.
pub(crate) async fn tests_under_load(world: &World) {
    let before = world.metric(ROWS).expect("predictions were made");
    let bench = ["bench", "--model", "tips", "--warm-up", "0s", "--requests"];
    let rest = ["--protocol", "rest", "--url", world.rest()];
    let text = world.text(&[&bench[..], &["40", "--rows", "3", "--data", "trips.csv"]].concat());
    assert!(text.contains("40, of which 40 answered and 0 failed") && text.contains("P99.9"), "{text}");
    world.write("rows.jsonl", "{\"time\": 1704067200000, \"fare\": 12.5, \"company\": \"north\"}\n");
    for (requests, options) in [
        ("41", &["--rate", "1000"][..]),
        ("42", &["--concurrency", "3", "--connections", "2", "--data", "rows.jsonl"]),
        ("43", &rest),
        ("44", &[&rest[..], &["--binary", "--data", "trips.csv"]].concat()),
        ("45", &[&rest[..], &["--rate", "1000", "--version", "1"]].concat()),
    ] {
        let report = world.json(&[&bench[..], &[requests], options].concat());
        assert_eq!(report["answered"].to_string(), requests, "{report}");
        assert_eq!((&report["failed"], &report["product"]), (&0.into(), &"rekindle".into()), "{report}");
        let quantiles = ["p50", "p90", "p95", "p99", "p99_9", "max"].map(|name| report["latency_ms"][name].as_f64());
        assert!(quantiles[0] > Some(0.0) && quantiles.is_sorted(), "{report}");
    }
    let sent = 40 * 3 + 41 + 42 + 43 + 44 + 45;
    eventually("the replica counts the rows of the load tests", async || match world.metric(ROWS) {
        Some(rows) if rows == before + sent => Ok(()),
        other => Err(format!("{other:?}, not {before} + {sent}")),
    })
    .await;
    failures(world, &bench, &rest);
}

/// Failed requests are counted by kind, and make the exit code 3.
fn failures(world: &World, bench: &[&str], rest: &[&str]) {
    let too_many = [bench, &["5", "--rows", "9000", "--json"]].concat();
    for (options, kind) in [(&[][..], "INVALID_ARGUMENT"), (rest, "HTTP_400")] {
        let printed = world.run(&[&too_many[..], options].concat());
        let report: Value = serde_json::from_str(&printed.out).expect("a report");
        assert_eq!((printed.code, &report["failed"], &report["answered"]), (3, &json!(5), &json!(0)), "{report}");
        assert_eq!(
            (&report["errors"][0]["kind"], &report["errors"][0]["count"]),
            (&json!(kind), &json!(5)),
            "{report}"
        );
        assert!(report["errors"][0]["example"].as_str().is_some_and(|text| text.contains("8192")), "{report}");
    }
    world.error(4, &["bench", "--model", "nothing"]);
    let usage = world.error(2, &["bench", "--model", "tips", "--protocol", "rest"]);
    assert!(usage.contains("--url"), "{usage}");
    world.write("fares.jsonl", "{\"fare\": 12.5}\n");
    let missing = world.error(1, &["bench", "--model", "tips", "--data", "fares.jsonl"]);
    assert!(missing.contains("row 0: the model requires the input"), "{missing}");
}

/// `advise`: rates without a refusal meet a minute, and none meets a nanosecond.
pub(crate) fn advice(world: &World) {
    let advise = ["advise", "tips", "--step", "100ms", "--rows", "1,4", "--p99"];
    let text = world.text(&[&advise[..], &["1m"]].concat());
    assert!(text.contains("Rows per request: ") && text.contains("headroom of 30 %") && text.contains("met"), "{text}");
    let advice = world.json(&[&advise[..], &["1m", "--rate", "1", "--headroom", "0"]].concat());
    let recommended = &advice["recommendation"];
    assert_eq!((&recommended["replicas"], &recommended["rows_per_request"]), (&json!(1), &json!(1)), "{advice}");
    let steps = advice["steps"].as_array().expect("steps");
    // One after the other, no request is too many. At a rate, a busy machine may have to refuse some.
    assert!(steps[0]["loop"] == "closed" && steps[0]["failed"] == 0 && steps[0]["meets"] == true, "{advice}");
    assert!(steps.iter().all(|step| step["meets"] == false || step["failed"] == 0), "{advice}");
    let none = world.run(&[&advise[..], &["1ns"]].concat());
    assert!(none.code == 3 && none.out.contains("No rate that was measured had a p99 of at most 1ns"), "{none:?}");
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    for options in [&[][..], &["--protocol", "rest"]] {
        let printed = alone(&[&["bench", "--model", "m", "--url", "http://127.0.0.1:1"][..], options].concat());
        assert!(printed.code == 5 && printed.err.contains("no server is reached at http://127.0.0.1:1"), "{printed:?}");
    }
}
