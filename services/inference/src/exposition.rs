//! Statistics of the loaded versions in the Prometheus text format: under the names of Triton's metrics, which dashboards expect, and as
//! histograms by phase. They are read from the statistics that the protocol reports, so that both agree.

use std::{
    fmt::{Display, Result, Write as _},
    sync::Arc,
};

use crate::{
    serving::Slot,
    statistics::{BOUNDS, Distribution, Phase, Reading, Reason},
};

/// The statistics of one version, and its labels.
struct Series {
    labels: String,
    reading: Reading,
    queued_rows: usize,
}

/// Renders the versions of all models.
pub(crate) fn render(slots: &[Arc<Slot>]) -> String {
    let series: Vec<_> = slots
        .iter()
        .flat_map(|slot| {
            let snapshot = slot.snapshot();
            let of_version = snapshot.loaded().map(|version| Series {
                labels: format!("model=\"{}\",version=\"{}\"", version.name, version.number),
                reading: version.statistics.read(),
                queued_rows: version.queue.rows(),
            });
            of_version.collect::<Vec<_>>()
        })
        .collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, &series);
    text
}

fn write(text: &mut String, all: &[Series]) -> Result {
    counters(text, all)?;
    durations(text, all)?;
    histogram(text, "nv_inference_request_duration_histogram_us", "Duration of requests", all, 1.0, |reading| {
        vec![(String::new(), reading.answered)]
    })?;
    for (phase, name) in Phase::ALL.into_iter().zip(TRITON_PHASES) {
        let (name, help) = (format!("nv_inference_{name}_duration_histogram_us"), format!("Duration of {name}"));
        histogram(text, &name, &help, all, 1.0, |reading| vec![(String::new(), reading.phases[phase as usize])])?;
    }
    let help = "Time of answered requests by phase";
    histogram(text, "rekindle_inference_phase_seconds", help, all, 1e6, |reading| {
        Phase::ALL
            .into_iter()
            .zip(reading.phases)
            .map(|(phase, distribution)| (format!(",phase=\"{}\"", name(phase)), distribution))
            .collect()
    })
}

/// The names of [`Phase::ALL`] in the metrics of Triton.
const TRITON_PHASES: [&str; 4] = ["queue", "compute_input", "compute_infer", "compute_output"];

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Queue => "queue",
        Phase::Decode => "decode",
        Phase::Compute => "compute",
        Phase::Encode => "encode",
    }
}

fn counters(text: &mut String, all: &[Series]) -> Result {
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Series) -> u64| {
        head(text, name, kind, help)?;
        all.iter().try_for_each(|series| sample(text, name, &series.labels, value(series)))
    };
    family("nv_inference_request_success", "counter", "Answered requests", &|series| series.reading.answered.count())?;
    family("nv_inference_count", "counter", "Predicted rows", &|series| series.reading.rows)?;
    family("nv_inference_exec_count", "counter", "Executions of the model", &|series| series.reading.executions)?;
    let pending = "Requests in flight";
    family("nv_inference_pending_request_count", "gauge", pending, &|series| series.reading.in_flight)?;
    let queued = "Rows that wait for a place";
    family("rekindle_inference_queued_rows", "gauge", queued, &|series| series.queued_rows as u64)?;
    head(text, "nv_inference_request_failure", "counter", "Requests without an answer, by reason")?;
    for Series { labels, reading, .. } in all {
        for reason in Reason::ALL {
            let labels = format!("{labels},reason=\"{}\"", reason.name());
            sample(text, "nv_inference_request_failure", &labels, reading.failures(reason))?;
        }
    }
    Ok(())
}

/// The sums of durations in microseconds.
fn durations(text: &mut String, all: &[Series]) -> Result {
    let mut family = |name: &str, help: &str, of: &dyn Fn(&Reading) -> Distribution| {
        let name = format!("nv_inference_{name}_duration_us");
        head(text, &name, "counter", help)?;
        all.iter().try_for_each(|series| sample(text, &name, &series.labels, of(&series.reading).nanos / 1_000))
    };
    family("request", "Cumulative duration of answered requests", &|reading| reading.answered)?;
    for (phase, name) in Phase::ALL.into_iter().zip(TRITON_PHASES) {
        let help = format!("Cumulative duration of {name} of answered requests");
        family(name, &help, &|reading| reading.phases[phase as usize])?;
    }
    Ok(())
}

/// A histogram with bounds and sums in a unit of so many microseconds. `of` returns the distributions of a version with their further labels.
fn histogram(
    text: &mut String,
    name: &str,
    help: &str,
    all: &[Series],
    unit: f64,
    of: impl Fn(&Reading) -> Vec<(String, Distribution)>,
) -> Result {
    head(text, name, "histogram", help)?;
    for Series { labels, reading, .. } in all {
        for (further, Distribution { buckets, nanos }) in of(reading) {
            let labels = format!("{labels}{further}");
            let mut cumulated = 0;
            for (at, count) in buckets.into_iter().enumerate() {
                cumulated += count;
                let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), |&bound| (bound as f64 / unit).to_string());
                sample(text, &format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), cumulated)?;
            }
            sample(text, &format!("{name}_sum"), &labels, nanos as f64 / 1_000.0 / unit)?;
            sample(text, &format!("{name}_count"), &labels, cumulated)?;
        }
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> Result {
    writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}")
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl Display) -> Result {
    writeln!(text, "{name}{{{labels}}} {value}")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        serving::{
            Catalog, Progress, Versions,
            fixture::{loaded, model},
        },
        statistics::Stopwatch,
    };

    #[test]
    fn every_version_has_the_metrics_of_its_requests() {
        let (catalog, version) = (Catalog::default(), loaded(3));
        let slot = catalog.slot(&model());
        slot.serve(&Versions::only(&version), &Progress::default());
        Stopwatch::new(&version.statistics, Instant::now()).answered(5, 1);
        drop(Stopwatch::new(&version.statistics, Instant::now()));
        let text = render(&[slot]);
        for line in [
            "# TYPE nv_inference_request_success counter",
            r#"nv_inference_request_success{model="flight-delay",version="3"} 1"#,
            r#"nv_inference_count{model="flight-delay",version="3"} 5"#,
            r#"nv_inference_request_failure{model="flight-delay",version="3",reason="CANCELED"} 1"#,
            r#"nv_inference_request_failure{model="flight-delay",version="3",reason="BACKEND"} 0"#,
            r#"nv_inference_pending_request_count{model="flight-delay",version="3"} 0"#,
            r#"nv_inference_request_duration_histogram_us_count{model="flight-delay",version="3"} 1"#,
            r#"rekindle_inference_phase_seconds_bucket{model="flight-delay",version="3",phase="queue",le="+Inf"} 1"#,
            r#"rekindle_inference_phase_seconds_bucket{model="flight-delay",version="3",phase="queue",le="0.00001"} 1"#,
        ] {
            assert!(text.lines().any(|present| present == line), "{line} is not in\n{text}");
        }
    }
}
