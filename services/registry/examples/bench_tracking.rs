//! Measures a server with MLflow's REST API: runs, points, versions, aliases and searches. Prints one JSON object of rates per second and
//! of times in milliseconds.
//!
//! Each writer keeps one connection. A server that writes the head and the body of an answer apart, as MLflow's does, waits for delayed
//! acknowledgements of TCP between them, some 40 ms a call: single calls one after the other measure that more than the server.
//!
//! usage: bench_tracking http://HOST:PORT [RUNS [POINTS]]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(4);
/// Points of a batch: as many as MLflow's server takes.
const BATCH: i64 = 1000;
/// Writers at the same time.
const WRITERS: usize = 8;

/// A connection that is kept.
struct Server {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Server {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an option of sockets");
        Self { address: address.to_owned(), stream: BufReader::new(stream) }
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /api/2.0/{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (mut status, mut length, mut is_chunked, mut line) = (String::new(), 0, false, String::new());
        if self.stream.read_line(&mut status).unwrap_or(0) == 0 {
            // Servers close connections now and then.
            *self = Self::connect(&self.address);
            return self.call(method, path, &serde_json::from_str(&body).unwrap_or_default());
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            is_chunked |= header.starts_with("transfer-encoding:") && header.ends_with("chunked");
        }
        let mut answer = Vec::new();
        loop {
            if is_chunked {
                line.clear();
                self.stream.read_line(&mut line).expect("the size of a chunk");
                length = usize::from_str_radix(line.trim(), 16).expect("a size");
            }
            let start = answer.len();
            answer.resize(start + length, 0);
            self.stream.read_exact(&mut answer[start..]).expect("a body");
            if is_chunked {
                self.stream.read_line(&mut line).expect("the end of a chunk");
            }
            if !is_chunked || length == 0 {
                break;
            }
        }
        // MLflow's server answers an upload with nothing.
        let answer = if answer.is_empty() { b"null".to_vec() } else { answer };
        let answer: Value =
            serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{method} {path}: {status}{error}"));
        assert!(status.contains(" 200 "), "{method} {path}: {status}{answer}");
        answer
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("mlflow/{path}"), body)
    }

    fn run(&mut self, experiment: &str) -> String {
        let body = json!({ "experiment_id": experiment, "start_time": 1_700_000_000_000_i64, "run_name": "r" });
        let run = self.post("runs/create", &body);
        run["run"]["info"]["run_id"].as_str().expect("an id").to_owned()
    }
}

/// Calls per second, one after the other.
fn rate(mut call: impl FnMut(u64)) -> f64 {
    call(0);
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        count += 1;
        call(count);
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// The median of the milliseconds of a few calls.
fn millis(mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn points(run: &str, from: i64) -> Value {
    let point = |step| json!({ "key": "loss", "value": 1.0 / (step + 1) as f64, "timestamp": 1_700_000_000_000_i64 + step, "step": step });
    json!({ "run_id": run, "metrics": (from..from + BATCH).map(point).collect::<Vec<_>>() })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("usage: bench_tracking http://HOST:PORT [RUNS [POINTS]]");
    let runs: usize = arguments.next().map_or(10_000, |runs| runs.parse().expect("a number of runs"));
    let many: i64 = arguments.next().map_or(1_000_000, |points| points.parse().expect("a number of points"));
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut server = Server::connect(address);
    let name = format!("bench {}", std::process::id());
    let experiment = server.post("experiments/create", &json!({ "name": name }));
    let experiment = experiment["experiment_id"].as_str().expect("an id").to_owned();
    let mut found = json!({});

    found["runs created/s"] = rate(|_| _ = server.run(&experiment)).into();
    let run = server.run(&experiment);
    found["points/s in batches of 1,000"] =
        (rate(|count| _ = server.post("runs/log-batch", &points(&run, count.cast_signed() * BATCH))) * BATCH as f64)
            .into();
    let point = |step: u64| json!({ "run_id": run, "key": "single", "value": 0.5, "timestamp": 1_700_000_000_000_i64, "step": step });
    found["points/s one by one"] = rate(|step| _ = server.post("runs/log-metric", &point(step))).into();
    found["params/s one by one"] = rate(|count| {
        let body = json!({ "run_id": run, "key": format!("p{}", count % 500), "value": format!("{}", count % 500) });
        _ = server.post("runs/log-parameter", &body);
    })
    .into();

    let model = json!({ "name": name });
    server.post("registered-models/create", &model);
    let logged = server.post("logged-models", &json!({ "experiment_id": experiment, "name": "model" }));
    let logged = &logged["model"]["info"];
    let path = logged["artifact_uri"].as_str().expect("an address").trim_start_matches("mlflow-artifacts:/").to_owned();
    let id = logged["model_id"].as_str().expect("an id").to_owned();
    server.call("PUT", &format!("mlflow-artifacts/artifacts/{path}/MLmodel"), &json!({ "flavors": { "sklearn": {} } }));
    let version = json!({ "name": name, "source": format!("models:/{id}"), "model_id": id });
    found["versions created/s"] = rate(|_| _ = server.post("model-versions/create", &version)).into();
    found["alias moves/s"] = rate(|count| {
        let version = (1 + count % 2).to_string();
        _ = server.post("registered-models/alias", &json!({ "name": name, "alias": "champion", "version": version }));
    })
    .into();

    // Runs with a param and a metric, written by several at once.
    let (left, times) = (Mutex::new(runs), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut server = Server::connect(address);
                loop {
                    let number = {
                        let mut left = left.lock().expect("not poisoned");
                        if *left == 0 {
                            break;
                        }
                        *left -= 1;
                        *left
                    };
                    let began = Instant::now();
                    let run = server.run(&experiment);
                    let metrics: Vec<_> = ["auc", "loss"]
                        .iter()
                        .map(|key| json!({ "key": key, "value": (number * 7919 % 10_007) as f64, "timestamp": 1_700_000_000_000_i64, "step": 0 }))
                        .collect();
                    let params = json!([{ "key": "depth", "value": (number % 10).to_string() }]);
                    server.post("runs/log-batch", &json!({ "run_id": run, "metrics": metrics, "params": params }));
                    times.lock().expect("not poisoned").push(began.elapsed().as_secs_f64() * 1e3 / 2.0);
                }
            });
        }
    });
    found[format!("runs with a batch/s, {WRITERS} writers")] = (runs as f64 / began.elapsed().as_secs_f64()).into();
    let mut times = times.into_inner().expect("not poisoned");
    times.sort_by(f64::total_cmp);
    found[format!("p99 of a write in ms, {WRITERS} writers")] = times[times.len() * 99 / 100].into();
    let search = |filter: &str, order: &str| json!({ "experiment_ids": [experiment], "filter": filter, "order_by": [order], "max_results": 100 });
    let best = search("params.depth = '3' AND metrics.auc > 5000", "metrics.auc DESC");
    found[format!("search of {runs} runs by metric and param in ms")] =
        millis(|| _ = server.post("runs/search", &best)).into();
    let latest = search("", "attributes.start_time DESC");
    found["list of 100 runs in ms"] = millis(|| _ = server.post("runs/search", &latest)).into();

    let run = server.run(&experiment);
    for batch in 0..many / BATCH {
        server.post("runs/log-batch", &points(&run, batch * BATCH));
    }
    let sample = format!("mlflow/metrics/get-history-bulk-interval?run_ids={run}&metric_key=loss&max_results=1000");
    found[format!("1,000 of {many} points of a metric in ms")] =
        millis(|| _ = server.call("GET", &sample, &Value::Null)).into();
    println!("{found}");
}
