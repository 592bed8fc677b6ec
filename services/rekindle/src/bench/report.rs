//! The report of a load test: tables for people, one JSON object for programs.

use std::time::Duration;

use humantime::format_duration;
use serde_json::{Value, json};

use super::{
    failure::Kind,
    load::{Length, Load, Plan},
    measured::Measured,
    target::Protocol,
};
use crate::client::output::{self, Format};

/// The quantiles of the latency that are reported, with their names in JSON and in tables.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999)];

/// A load and what it measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub servers: Vec<String>,
    /// The product of the servers; empty if they do not say.
    pub product: String,
    pub protocol: Protocol,
    pub model: String,
    /// Empty is the version that the servers choose.
    pub version: String,
    /// Rows of each request.
    pub rows: usize,
    /// Different requests, and their mean size in bytes.
    pub requests: (usize, usize),
    /// Connections to all servers together; `None` if each request in flight has its own.
    pub connections: Option<usize>,
    pub plan: Plan,
    /// Whether the load was ended before its time.
    pub is_interrupted: bool,
    pub measured: Measured,
}

impl Report {
    /// Prints the report.
    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Json => output::print_json(&self.json()),
            Format::Table => self.print_tables(),
        }
    }

    fn json(&self) -> Value {
        let Measured { warm_up, answered, failures, received, elapsed, .. } = &self.measured;
        let errors = failures.by_kind();
        json!({
            "servers": self.servers,
            "product": self.product,
            "protocol": match self.protocol { Protocol::Grpc => "grpc", Protocol::Rest => "rest" },
            "model": self.model,
            "version": self.version,
            "load": self.load_json(),
            "rows_per_request": self.rows,
            "different_requests": self.requests.0,
            "request_bytes": self.requests.1,
            "warm_up_requests": warm_up,
            "interrupted": self.is_interrupted,
            "seconds": elapsed.as_secs_f64(),
            "requests": self.measured.requests(),
            "answered": answered,
            "failed": failures.count(),
            "requests_per_second": self.measured.rate(),
            "rows_per_second": self.rows_per_second(),
            "response_bytes_per_second": *received as f64 / elapsed.as_secs_f64().max(1e-9),
            "latency_ms": self.latency_json(),
            "send_delay_ms": {
                "p99": millis(Duration::from_nanos(self.measured.delays.value_at_quantile(0.99))),
                "max": millis(Duration::from_nanos(self.measured.delays.max())),
            },
            "not_sent": failures.of(Kind::NotSent),
            "errors": errors.map(|(kind, count, example)| {
                json!({ "kind": kind.to_string(), "count": count, "example": example })
            }).collect::<Vec<_>>(),
        })
    }

    fn load_json(&self) -> Value {
        match self.plan.load {
            Load::Closed { concurrency } => {
                json!({ "loop": "closed", "concurrency": concurrency, "connections": self.connections })
            }
            Load::Open { rate, max_in_flight, seed } => json!({
                "loop": "open",
                "rate": rate,
                "arrivals": "poisson",
                "seed": seed,
                "max_in_flight": max_in_flight,
                "connections": self.connections,
            }),
        }
    }

    fn latency_json(&self) -> Value {
        let mut latency = json!({ "mean": millis(self.measured.mean()), "max": millis(self.measured.longest()) });
        for (name, quantile) in QUANTILES {
            latency[name] = json!(millis(self.measured.latency(quantile)));
        }
        latency
    }

    fn rows_per_second(&self) -> f64 {
        self.measured.rate() * self.rows as f64
    }

    fn print_tables(&self) {
        let measured = &self.measured;
        let (requests, failed) = (measured.requests(), measured.failures.count());
        let of = if self.version.is_empty() { String::new() } else { format!(" version {}", self.version) };
        let product = if self.product.is_empty() { String::new() } else { format!("{} at ", self.product) };
        let (different, bytes) = self.requests;
        output::print_fields(&vec![
            ("model", format!("{}{of}", self.model)),
            ("servers", format!("{product}{}", self.servers.join(", "))),
            ("load", self.load()),
            ("rows per request", self.rows.to_string()),
            ("request", format!("{bytes} bytes, the mean of {different} different requests")),
            ("measured", self.measured_for()),
            ("requests", format!("{requests}, of which {} answered and {failed} failed", measured.answered)),
            ("requests per second", format!("{:.1}", measured.rate())),
            ("rows per second", format!("{:.1}", self.rows_per_second())),
            ("not sent", self.not_sent()),
        ]);
        if !measured.latencies.is_empty() {
            self.print_latency();
        }
        if failed > 0 {
            output::emit("");
            let errors = measured.failures.by_kind();
            let lines =
                errors.map(|(kind, count, example)| vec![kind.to_string(), count.to_string(), example.to_owned()]);
            output::print_table(&["error", "requests", "example"], lines);
        }
    }

    fn print_latency(&self) {
        let measured = &self.measured;
        let names = QUANTILES.map(|(name, _)| name.replace('_', "."));
        let header: Vec<&str> = ["latency", "mean"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let quantiles = QUANTILES.map(|(_, quantile)| measured.latency(quantile));
        let times = [measured.mean()].into_iter().chain(quantiles).chain([measured.longest()]);
        let line = std::iter::once("ms".to_owned()).chain(times.map(shown)).collect();
        output::emit("");
        output::print_table(&[&header[..], &["max"]].concat(), [line]);
    }

    fn load(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Grpc => "gRPC",
            Protocol::Rest => "REST",
        };
        let connections = self.connections.map(|count| format!(" over {count} connections")).unwrap_or_default();
        match self.plan.load {
            Load::Closed { concurrency } => {
                format!("{protocol}, closed loop, {concurrency} requests in flight{connections}")
            }
            Load::Open { rate, max_in_flight, .. } => format!(
                "{protocol}, open loop, {rate} requests per second (Poisson), at most {max_in_flight} in flight{connections}"
            ),
        }
    }

    fn measured_for(&self) -> String {
        let planned = match self.plan.length {
            Length::Time(time) => format!("of {}", format_duration(time)),
            Length::Requests(requests) => format!("of {requests} requests"),
        };
        let interrupted = if self.is_interrupted { format!(" {planned}, interrupted") } else { String::new() };
        let warm_up = self.measured.warm_up;
        format!("{:.1} s{interrupted}, after {warm_up} requests of warm-up", self.measured.elapsed.as_secs_f64())
    }

    /// The requests that the cap of the open loop kept back; empty if it was not reached.
    fn not_sent(&self) -> String {
        match (self.measured.failures.of(Kind::NotSent), self.plan.load) {
            (0, _) | (_, Load::Closed { .. }) => String::new(),
            (requests, Load::Open { max_in_flight, .. }) => {
                format!("{requests} requests, due while {max_in_flight} were in flight (--max-in-flight)")
            }
        }
    }
}

/// Milliseconds to the microsecond, for programs.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// Milliseconds with three digits or more, for people.
pub(crate) fn shown(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        millis @ ..10.0 => format!("{millis:.2}"),
        millis @ ..100.0 => format!("{millis:.1}"),
        millis => format!("{millis:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{failure::Failure, measured::Sample};

    fn report() -> Report {
        let mut measured = Measured::nothing().expect("bounds");
        for result in [Ok(10), Ok(10), Err(Failure::new(Kind::Grpc(8), "full"))] {
            let (delay, latency) = (Duration::ZERO, Duration::from_millis(4));
            measured.add(Sample { delay, latency, ended: Duration::from_secs(2), result });
        }
        Report {
            servers: vec!["http://a:1".to_owned()],
            product: "rekindle".to_owned(),
            protocol: Protocol::Grpc,
            model: "m".to_owned(),
            version: String::new(),
            rows: 32,
            requests: (2, 100),
            connections: Some(4),
            plan: Plan {
                load: Load::Open { rate: 1.5, max_in_flight: 1, seed: 0 },
                warm_up: Duration::ZERO,
                length: Length::Requests(3),
                timeout: Duration::from_secs(1),
            },
            is_interrupted: false,
            measured,
        }
    }

    #[test]
    fn rates_are_of_answered_requests_and_errors_have_their_kind() {
        let json = report().json();
        assert_eq!((&json["requests"], &json["answered"], &json["failed"]), (&json!(3), &json!(2), &json!(1)));
        assert_eq!((&json["requests_per_second"], &json["rows_per_second"]), (&json!(1.0), &json!(32.0)));
        assert_eq!(json["errors"], json!([{ "kind": "RESOURCE_EXHAUSTED", "count": 1, "example": "full" }]));
        let p99 = json["latency_ms"]["p99"].as_f64().expect("a number");
        assert!((p99 / 4.0 - 1.0).abs() < 2e-3, "{p99}");
        assert_eq!((&json["load"]["loop"], &json["not_sent"]), (&json!("open"), &json!(0)));
    }

    #[test]
    fn a_cap_that_was_reached_is_reported() {
        let mut report = report();
        assert_eq!(report.not_sent(), "");
        report.measured.failures.add(Failure::new(Kind::NotSent, ""));
        assert!(report.not_sent().starts_with("1 requests, due while 1 were in flight"));
        assert_eq!(report.json()["not_sent"], 1);
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [250, 4_250, 42_500, 1_250_000].map(|micros| shown(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.25", "4.25", "42.5", "1250"]);
    }
}
