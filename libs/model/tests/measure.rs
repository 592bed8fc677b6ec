use std::{ops::ControlFlow, time::Instant};
use rekindle_dataset::*;
use rekindle_domain::{Recipe, Architecture};
use rekindle_model::{*, train::*};
fn env(k: &str, d: f64) -> f64 { std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d) }
fn recipe(target: &str, ignore: &[&str]) -> Recipe {
    let mut r = Recipe::for_target(target);
    r.ignore = ignore.iter().map(|s| s.to_string()).collect();
    r.learning_rate = env("LR", r.learning_rate);
    r.weight_decay = env("WD", r.weight_decay);
    r.batch_size = env("BS", r.batch_size as f64) as usize;
    r.patience = env("PAT", r.patience as f64) as u32;
    r.max_epochs = env("EP", r.max_epochs as f64) as u32;
    r.seed = env("SEED", 0.) as u64;
    if let Ok(h) = std::env::var("HIDDEN") {
        r.architecture = if h == "linear" { Architecture::Linear } else { Architecture::Mlp { hidden: h.split(',').map(|x| x.parse().unwrap()).collect(), dropout: env("DROP", 0.1) } };
    }
    r
}
fn go(file: &str, time: Option<&str>, until: Option<&str>, r: Recipe) {
    let t = read_parquet(std::fs::read(format!("/work/shared/data/{file}")).unwrap().into()).unwrap();
    let (tr, te) = match until { Some(u) => { let u = Some(u.parse().unwrap()); (t.slice_time(time.unwrap(), None, u).unwrap(), t.slice_time(time.unwrap(), u, None).unwrap()) }, None => (t.slice(0, 1400), t.slice(1400, 9999)) };
    let s = Instant::now();
    let mut last = Instant::now();
    let quiet = std::env::var("Q").is_ok();
    let b = train(&TrainInput { table: &tr, time_column: time, recipe: &r }, &Origin { run_id: "r".into(), dataset_digests: vec![], code_revision: "x".into() }, |e| { if !quiet { println!("{} {:.2?} {:.4} {:.4?} {}", e.epoch, last.elapsed(), e.train_loss, e.metrics, e.best);} last = Instant::now(); ControlFlow::Continue(()) }).unwrap();
    let m = Model::from_bundle(&b).unwrap();
    m.warm_up().unwrap();
    let s2 = Instant::now();
    let p = m.score(&te.batch).unwrap();
    let el = s2.elapsed();
    println!("{file} train {} rows in {:.2?}; test {} rows {:.2?}: {:.4?} {}", tr.rows(), s.elapsed(), te.rows(), el, m.metrics(&p, &m.targets(&te.batch).unwrap()).unwrap(), b.digest().unwrap().short());
    let one = te.batch.slice(5, 1);
    let s3 = Instant::now();
    for _ in 0..10000 { std::hint::black_box(m.score(&one).unwrap()); }
    println!("one row {:.2?}", s3.elapsed() / 10000);
    for i in &m.signature().inputs { if !i.nullable { let a = te.batch.column_by_name(&i.name).unwrap(); use arrow::array::Array; if a.null_count() > 0 { println!("later nulls in {} {}", i.name, a.null_count()); } } }
    if !quiet { println!("{}", b.card().unwrap()); }
}
#[test] fn flights() { go("flights_2013.parquet", Some("timestamp"), Some("2013-05-01T00:00:00Z"), recipe("late", &["flight_id", "flight_no", "arr_delay"])); }
#[test] fn bike() { go("bike_hourly.parquet", Some("timestamp"), Some("2011-09-01T00:00:00Z"), recipe("cnt", &["casual", "registered"])); }
#[test] fn digits() { go("digits_8x8.parquet", None, None, recipe("label", &[])); }
#[test] fn taxi() { go("chicago_taxi_tips.parquet", Some("timestamp"), Some("2014-04-01T00:00:00Z"), recipe("big_tip", &["trip_id", "tips"])); }
#[test] fn retrain() {
    let t = read_parquet(std::fs::read("/work/shared/data/flights_2013.parquet").unwrap().into()).unwrap();
    let r = recipe("late", &["flight_id", "flight_no", "arr_delay"]);
    let fit = |u: &str| { let tr = t.slice_time("timestamp", None, Some(u.parse().unwrap())).unwrap(); let b = train(&TrainInput { table: &tr, time_column: Some("timestamp"), recipe: &r }, &Origin { run_id: "r".into(), dataset_digests: vec![], code_revision: "x".into() }, |_| ControlFlow::Continue(())).unwrap(); println!("{u} {:.4?}", b.manifest.metrics); Model::from_bundle(&b).unwrap() };
    let models = [fit("2013-05-01T00:00:00Z"), fit("2013-07-01T00:00:00Z"), fit("2013-10-01T00:00:00Z")];
    for m in 5..=12 { let (a, z) = (format!("2013-{m:02}-01T00:00:00Z"), if m == 12 { "2014-01-02T00:00:00Z".to_string() } else { format!("2013-{:02}-01T00:00:00Z", m + 1) });
        let te = t.slice_time("timestamp", Some(a.parse().unwrap()), Some(z.parse().unwrap())).unwrap();
        let s: Vec<String> = models.iter().map(|md| { let x = md.metrics(&md.score(&te.batch).unwrap(), &md.targets(&te.batch).unwrap()).unwrap(); format!("{:.4}/{:.3}", x["log_loss"], x["auc"]) }).collect();
        println!("month {m} {s:?}"); }
}
