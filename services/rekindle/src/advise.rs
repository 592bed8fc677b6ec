//! `rekindle advise`: how many replicas, and how many rows per request, serve a model within a latency.

mod recommend;
mod steps;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use humantime::format_duration;
use rekindle_domain::{ModelName, Traffic};
use serde_json::{Value, json};

use self::{
    recommend::{Demand, Recommendation, recommend},
    steps::{Goal, Step},
};
use crate::{
    bench::{
        self, RowSource,
        load::{Length, Load, Plan, Stop},
        millis, shown,
        target::{Address, Target},
    },
    client::{
        Global,
        output::{self, Format},
        parse,
    },
};

/// Connections to the replica.
const CONNECTIONS: usize = 4;
/// A request that is not answered by then fails its step.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The arguments of `rekindle advise`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Measures one replica on this machine, with test requests: for each number of rows per request the throughput of a closed loop, then open
loops (Poisson arrivals) of increasing rates until one does not meet the latency. The replica, the load generator and whatever else runs
here share the cores, so the figures are those of this machine in this state. Exits with code 3 if no rate meets the latency.

Examples:
  rekindle advise tips --p99 20ms
  rekindle advise tips --p99 5ms --rate 50000 --rows 1,16 --data new-trips.csv")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Longest 99th percentile of the latency
    #[arg(long, value_name = "D", value_parser = parse::span)]
    p99: Duration,
    /// Numbers of rows per request to measure
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,8,32,128", value_parser = parse::count)]
    rows: Vec<usize>,
    /// Rows per second to serve; without it, what one replica serves is shown
    #[arg(long, value_name = "R", value_parser = parse::positive)]
    rate: Option<f64>,
    /// Share of the throughput of each replica to leave free
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    headroom: f64,
    /// Duration of each step
    #[arg(long, value_name = "D", default_value = "3s", value_parser = bench::period)]
    step: Duration,
    #[command(flatten)]
    source: RowSource,
}

/// What was measured, and what follows.
#[derive(Debug)]
struct Advice {
    model: String,
    replica: String,
    cores: usize,
    goal: Goal,
    demand: Demand,
    steps: Vec<Step>,
    recommendation: Option<Recommendation>,
}

/// Advises. Returns whether some rate meets the latency.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let replicas = global.platform()?.replica_addresses().await?;
    let replica = replicas.first().context("no inference replica is known")?;
    let replica = Address::parse(&format!("http://{replica}")).map_err(anyhow::Error::msg)?;
    let model = global.namespace.qualify(args.model.as_str());
    let goal = Goal { p99: args.p99 };
    let demand = Demand { rows_per_second: args.rate, headroom: args.headroom };
    let steps = args.measure(&replica, &model, goal).await?;
    let advice = Advice {
        model,
        replica: replica.to_string(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        recommendation: recommend(&steps, goal, demand),
        goal,
        demand,
        steps,
    };
    advice.print(global.format());
    Ok(advice.recommendation.is_some())
}

impl Args {
    async fn measure(&self, replica: &Address, model: &str, goal: Goal) -> Result<Vec<Step>> {
        let stop = bench::stop_on_interrupt();
        let served = bench::describe(replica, model).await?;
        let bar = output::bar((self.rows.len() * steps::MOST) as u64, "{msg} {bar:30} {pos} of at most {len} loads");
        let mut steps = Vec::new();
        for &rows in &self.rows {
            bar.set_message(format!("{rows} rows per request"));
            let columns = self.source.columns(&served, rows)?;
            let messages = bench::grpc_requests(model, Traffic::Test, &columns, rows)?;
            let target = Target::grpc(std::slice::from_ref(replica), CONNECTIONS, messages)?;
            let measured =
                steps::of_rows(goal, self.source.seed, async |load| self.step(&target, rows, load, &stop).await);
            steps.extend(measured.await?);
        }
        Ok(steps)
    }

    /// Measures a load; `None` if it was interrupted.
    async fn step(&self, target: &Arc<Target>, rows: usize, load: Load, stop: &Stop) -> Result<Option<Step>> {
        let plan = Plan { load, warm_up: self.step / 5, length: Length::Time(self.step), timeout: TIMEOUT };
        let measured = bench::drive(target, plan, stop.clone()).await?;
        Ok((!stop.is_stopped()).then(|| Step::of(rows, load, &measured)))
    }
}

impl Advice {
    fn print(&self, format: Format) {
        match format {
            Format::Json => output::print_json(&self.json()),
            Format::Table => self.print_tables(),
        }
    }

    fn json(&self) -> Value {
        let step = |step: &Step| {
            json!({
                "rows_per_request": step.rows,
                "loop": if step.offered.is_some() { "open" } else { "closed" },
                "offered_requests_per_second": step.offered,
                "requests_per_second": step.answered,
                "rows_per_second": step.answered * step.rows as f64,
                "p50_ms": millis(step.p50),
                "p99_ms": millis(step.p99),
                "requests": step.requests,
                "failed": step.failed,
                "meets": step.meets(self.goal),
            })
        };
        json!({
            "model": self.model,
            "replica": self.replica,
            "cores": self.cores,
            "p99_ms": millis(self.goal.p99),
            "rows_per_second": self.demand.rows_per_second,
            "headroom": self.demand.headroom,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "recommendation": self.recommendation.as_ref().map(|found| json!({
                "rows_per_request": found.step.rows,
                "max_rows_per_second_of_a_replica": found.step.rows_per_second(),
                "rows_per_second_of_a_replica": found.rows_per_replica,
                "p99_ms": millis(found.step.p99),
                "replicas": found.replicas,
            })),
        })
    }

    fn print_tables(&self) {
        let header = ["rows", "loop", "requests/s", "rows/s", "p50 ms", "p99 ms", "failed", "goal"];
        let lines = self.steps.iter().map(|step| {
            let offered = step.offered.map_or_else(|| "closed".to_owned(), |rate| format!("open, {rate:.0}/s"));
            let goal = match (step.offered, step.meets(self.goal)) {
                (None, _) => "",
                (Some(_), true) => "met",
                (Some(_), false) => "not met",
            };
            vec![
                step.rows.to_string(),
                offered,
                format!("{:.0}", step.answered),
                format!("{:.0}", step.answered * step.rows as f64),
                shown(step.p50),
                shown(step.p99),
                step.failed.to_string(),
                goal.to_owned(),
            ]
        });
        output::print_table(&header, lines);
        output::emit("");
        self.sentences().iter().for_each(|sentence| output::emit(sentence));
    }

    /// The recommendation, each figure of which is in the table or follows from it.
    fn sentences(&self) -> Vec<String> {
        let (goal, cores) = (format_duration(self.goal.p99), self.cores);
        let state = format!(
            "Measured on {cores} cores, which the replica at {} shared with the load generator and all else that ran.",
            self.replica
        );
        let Some(Recommendation { step, rows_per_replica, replicas }) = &self.recommendation else {
            return vec![format!("No rate that was measured had a p99 of at most {goal}."), state];
        };
        let (rows, most, p99) = (step.rows, step.rows_per_second(), shown(step.p99));
        let percent = self.demand.headroom * 100.0;
        let mut sentences = vec![
            format!(
                "Rows per request: {rows}. One replica served {most:.0} rows/s with a p99 of {p99} ms (at most {goal})."
            ),
            format!("With a headroom of {percent:.0} %, that is {rows_per_replica:.0} rows/s for each replica."),
        ];
        if let (Some(replicas), Some(rate)) = (replicas, self.demand.rows_per_second) {
            sentences.push(format!("Replicas for {rate:.0} rows/s: {replicas}, each with {cores} cores of this kind."));
        }
        sentences.push(state);
        sentences
    }
}

/// A share of at least 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    let share = parse::number(text)?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("expected at least 0 and below 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(recommendation: Option<Recommendation>) -> Advice {
        Advice {
            model: "m".to_owned(),
            replica: "http://a:1".to_owned(),
            cores: 2,
            goal: Goal { p99: Duration::from_millis(20) },
            demand: Demand { rows_per_second: Some(50_000.0), headroom: 0.3 },
            steps: Vec::new(),
            recommendation,
        }
    }

    #[test]
    fn the_sentences_have_the_figures_of_the_recommendation() {
        let p99 = Duration::from_micros(4_250);
        let step = Step { rows: 8, offered: Some(5_000.0), answered: 5_000.0, p50: p99, p99, requests: 10, failed: 0 };
        let advice = advice(Some(Recommendation { step, rows_per_replica: 28_000.0, replicas: Some(2) }));
        let sentences = advice.sentences().join("\n");
        for part in [
            "Rows per request: 8. One replica served 40000 rows/s with a p99 of 4.25 ms (at most 20ms)",
            "headroom of 30 %",
            "28000 rows/s",
            "Replicas for 50000 rows/s: 2",
        ] {
            assert!(sentences.contains(part), "{part}: {sentences}");
        }
        assert_eq!(advice.json()["recommendation"]["replicas"], 2);
    }

    #[test]
    fn an_unmet_goal_is_said() {
        let advice = advice(None);
        assert!(advice.sentences()[0].starts_with("No rate that was measured had a p99 of at most 20ms"));
        assert!(advice.json()["recommendation"].is_null());
    }

    #[test]
    fn a_headroom_is_a_share() {
        assert_eq!((share("0"), share("0.5")), (Ok(0.0), Ok(0.5)));
        assert!(share("1").is_err() && share("-0.1").is_err() && share("NaN").is_err());
    }
}
