//! `rekindle drift` and `rekindle profile`, run as a program.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, ListArray, RecordBatch},
    datatypes::Int64Type,
};
use parquet::arrow::ArrowWriter;
use rekindle_dataset::{read_csv, write_parquet};
use serde_json::Value;
use tempfile::TempDir;

/// Results of other tools, with their inputs.
const CASES: &str = include_str!("../../../libs/statistics/tests/data/monitoring-cases.json");

/// A folder of files in which the program runs.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        files.iter().for_each(|(name, text)| folder.write(name, text.as_bytes()));
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_rekindle"));
        Command::new(program).args(arguments).current_dir(self.0.path()).env("COLUMNS", "200").output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The output of `rekindle drift --json`.
    #[track_caller]
    fn drift(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[&["drift", "--json"], arguments].concat())).unwrap()
    }

    /// Standard error of a run that fails with `code`.
    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Columns of every kind. `shift` moves the numbers and changes the frequency of the first category.
fn flights(rows: usize, shift: usize) -> String {
    let mut csv = "delay,carrier,late,at,constant\n".to_owned();
    for row in 0..rows {
        let delay =
            if row % 17 == 0 { String::new() } else { ((row * 7919 % 1009) as f64 / 10.0 + shift as f64).to_string() };
        let carrier = if row % 10 < 3 + shift.min(4) { "UA" } else { ["AA", "DL", "B6"][row % 3] };
        writeln!(csv, "{delay},{carrier},{},2013-01-{:02}T10:00:00Z,7", row % 4 == 0, 1 + row % 28).unwrap();
    }
    csv
}

fn two(reference: &str, current: &str) -> Folder {
    Folder::with(&[("reference.csv", reference), ("current.csv", current)])
}

const BOTH: [&str; 2] = ["reference.csv", "current.csv"];

fn column<'a>(output: &'a Value, name: &str) -> &'a Value {
    output["columns"].as_array().unwrap().iter().find(|column| column["name"] == name).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_json_has_every_field_of_every_column() {
    let folder = two(&flights(4000, 0), &flights(4000, 30));
    let output = folder.drift(&BOTH);
    let names: Vec<&str> = output["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["delay", "carrier", "late", "at", "constant"]);
    assert_eq!(output["verdict"], "drifted");
    for expected in [
        "name",
        "kind",
        "verdict",
        "psi",
        "jensen_shannon",
        "wasserstein",
        "ks",
        "chi_square",
        "missing",
        "unseen_share",
        "effect",
        "minimum_detectable_effect",
        "cause_share",
    ] {
        output["columns"]
            .as_array()
            .unwrap()
            .iter()
            .for_each(|column| assert!(keys(column).contains(&expected), "{expected}"));
    }
    let (delay, carrier) = (column(&output, "delay"), column(&output, "carrier"));
    assert_eq!((&delay["kind"], &delay["verdict"]), (&"numeric".into(), &"drifted".into()));
    assert!(delay["ks"]["statistic"].as_f64().unwrap() > 0.2 && delay["ks"]["p_value"].as_f64().unwrap() < 1e-6);
    assert!(
        delay["wasserstein"].as_f64().unwrap() > 0.5
            && delay["chi_square"].is_null()
            && delay["unseen_share"].is_null()
    );
    assert_eq!(delay["missing"]["reference"], delay["missing"]["current"]);
    assert_eq!((&carrier["kind"], &carrier["verdict"]), (&"categorical".into(), &"drifted".into()));
    assert!(
        carrier["ks"].is_null() && carrier["wasserstein"].is_null() && carrier["chi_square"]["p_value"].is_number()
    );
    assert_eq!(carrier["unseen_share"], 0.0);
    for (name, kind) in [("late", "categorical"), ("at", "numeric"), ("constant", "numeric")] {
        let column = column(&output, name);
        assert_eq!((&column["kind"], &column["verdict"]), (&kind.into(), &"stable".into()), "{column}");
    }
    let shares: f64 = output["columns"].as_array().unwrap().iter().map(|c| c["cause_share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
}

#[test]
fn the_exit_code_depends_on_the_verdict_and_the_flags() {
    let folder = two(&flights(2000, 0), &flights(2000, 30));
    let code = |arguments: &[&str]| folder.run(arguments).status.code();
    assert_eq!(code(&["drift", "reference.csv", "current.csv"]), Some(0));
    assert_eq!(code(&["drift", "reference.csv", "current.csv", "--fail-on-drift"]), Some(3));
    assert_eq!(code(&["drift", "reference.csv", "reference.csv", "--fail-on-drift"]), Some(0));
    assert_eq!(
        code(&["drift", "reference.csv", "current.csv", "--fail-on-drift", "--ignore", "delay,carrier"]),
        Some(0)
    );
    assert_eq!(code(&["drift", "reference.csv"]), Some(2));
    assert_eq!(code(&["drift", "reference.csv", "current.csv", "--margin", "0"]), Some(2));
    assert_eq!(code(&["drift", "reference.csv", "nowhere.csv"]), Some(1));
}

#[test]
fn a_profile_gives_the_same_result_as_its_file() {
    let folder = two(&flights(3000, 0), &flights(1000, 3));
    folder.done(&["profile", "reference.csv", "-o", "reference.json"]);
    folder.write("stdout.json", folder.done(&["profile", "current.csv"]).as_bytes());
    let whole = folder.drift(&BOTH);
    assert_eq!(folder.drift(&["reference.json", "current.csv"]), whole);
    assert_eq!(folder.drift(&["reference.json", "stdout.json"]), whole);
    assert!(folder.read("reference.json").len() < 200_000);
}

#[test]
fn the_result_does_not_depend_on_the_file_format() {
    let (reference, current) = (flights(3000, 0), flights(1000, 3));
    let folder = two(&reference, &current);
    for (name, csv) in [("reference.parquet", reference), ("current.parquet", current)] {
        folder.write(name, &write_parquet(&read_csv(csv.into()).unwrap()).unwrap());
    }
    let output = folder.drift(&BOTH);
    assert_eq!(folder.drift(&["reference.parquet", "current.parquet"]), output);
    assert_eq!(folder.drift(&["reference.csv", "current.parquet"]), output);
}

#[test]
fn columns_can_be_excluded_or_compared_as_categorical() {
    let folder = two(
        &flights(2000, 0),
        &(flights(2000, 30).replace(",constant\n", ",constant,new\n").replace(",7\n", ",8,x\n")),
    );
    let output = folder.drift(&BOTH);
    assert_eq!(output["new_columns"], serde_json::json!(["new"]));
    assert_eq!(column(&output, "constant")["kind"], "numeric");
    let names = |output: &Value| -> Vec<String> {
        output["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let output = folder.drift(&["reference.csv", "current.csv", "--ignore", "delay,new", "--categorical", "constant"]);
    assert_eq!(names(&output), ["carrier", "late", "at", "constant"]);
    assert_eq!(output["new_columns"], serde_json::json!([]));
    assert_eq!(
        (&column(&output, "constant")["kind"], &column(&output, "constant")["unseen_share"]),
        (&"categorical".into(), &1.0.into())
    );
    assert_eq!(output["skipped"]["reference"][0]["name"], "delay");
    let output = folder.drift(&["reference.csv", "current.csv", "--columns", "late,delay"]);
    assert_eq!(names(&output), ["delay", "late"]);
    let weighted = folder.drift(&["reference.csv", "current.csv", "--importance", "carrier=1"]);
    assert_eq!(column(&weighted, "carrier")["cause_share"], 1.0);
    assert_eq!(column(&weighted, "delay")["cause_share"], 0.0);
}

#[test]
fn the_shift_can_be_attributed_by_its_influence_on_a_prediction() {
    let predicted = |csv: String| -> String {
        let line = |line: &str| match line.contains(",UA,") {
            _ if line.starts_with("delay") => format!("{line},p\n"),
            true => format!("{line},0.9\n"),
            false => format!("{line},0.2\n"),
        };
        csv.lines().map(line).collect()
    };
    let folder = two(&predicted(flights(2000, 0)), &predicted(flights(2000, 30)));
    let output = folder.drift(&["reference.csv", "current.csv", "--prediction", "p"]);
    assert!(column(&output, "carrier")["cause_share"].as_f64().unwrap() > 0.8, "{output}");
    assert_eq!((&column(&output, "p")["cause_share"], &output["cause_weighting"]), (&0.0.into(), &"prediction".into()));
    let apart = folder.drift(&["reference.csv", "current.csv", "--prediction", "p", "--ignore", "p"]);
    assert_eq!(column(&apart, "carrier")["cause_share"], column(&output, "carrier")["cause_share"]);
    folder.done(&["profile", "reference.csv", "-o", "reference.json"]);
    let refused = |reference, column| folder.refused(&["drift", reference, "current.csv", "--prediction", column], 1);
    assert!(refused("reference.json", "p").contains("is a profile, which has no rows"));
    assert!(refused("reference.csv", "nowhere").contains("no column \"nowhere\""));
    assert!(refused("reference.csv", "carrier").contains("no numbers"));
}

#[test]
fn every_change_of_a_column_has_a_verdict_and_a_reason() {
    let rows =
        |value: &dyn Fn(usize) -> String| (0..1000).fold("x,y\n".to_owned(), |csv, row| csv + &value(row) + "\n");
    let good = rows(&|row| format!("{},{}", row % 100, row % 2 == 0));
    let cases: [(&str, String, &str); 6] = [
        ("not there", rows(&|row| format!("{row}")).replace("x,y", "y"), "the column is absent"),
        ("text", rows(&|row| format!("n/a,{}", row % 2 == 0)), "values that are not numbers changed from 0 % to 100 %"),
        ("no longer a boolean", rows(&|row| format!("{},perhaps", row % 100)), "neither true nor false"),
        ("all missing", rows(&|row| format!(",{}", row % 2 == 0)), "missing values changed"),
        ("another unit", rows(&|row| format!("{},{}", row % 100 * 1000, row % 2 == 0)), "possible change of unit"),
        (
            "one wild value",
            rows(&|row| if row == 7 { "1e300,false".to_owned() } else { format!("{},{}", row % 100, row % 2 == 0) }),
            "",
        ),
    ];
    for (name, current, reason) in cases {
        let output = two(&good, &current).drift(&BOTH);
        let drifted = output["columns"].as_array().unwrap().iter().find(|column| column["verdict"] == "drifted");
        match drifted {
            Some(column) => {
                assert!(!reason.is_empty() && column["reason"].as_str().unwrap().contains(reason), "{name}: {column}")
            }
            None => assert!(reason.is_empty(), "{name}: {output}"),
        }
    }
}

#[test]
fn too_few_rows_are_inconclusive() {
    let reference = flights(2000, 0);
    for current in [flights(0, 0), flights(1, 0)] {
        let folder = two(&reference, &current);
        assert_eq!(folder.drift(&BOTH)["verdict"], "inconclusive");
        assert_eq!(folder.run(&["drift", "reference.csv", "current.csv", "--fail-on-drift"]).status.code(), Some(0));
        let folder = two(&current, &reference);
        assert_eq!(folder.drift(&BOTH)["verdict"], "inconclusive");
    }
    let output = two(&reference, &flights(40, 0)).done(&["drift", "reference.csv", "current.csv"]);
    assert!(output.contains("Inconclusive columns: ") && output.contains(" are needed"), "{output}");
}

#[test]
fn the_table_has_the_columns_and_a_summary() {
    let folder = two(&flights(2000, 0), &flights(2000, 30));
    let output = folder.done(&["drift", "reference.csv", "current.csv"]);
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].trim_start().starts_with("COLUMN"), "{output}");
    assert!(lines[1].contains("delay") && lines[1].contains("drifted"), "{output}");
    assert!(
        output.contains(
            "Drifted: 2 of 5 columns (delay, carrier); 2,000 rows compared with 2,000 rows of reference data."
        ),
        "{output}"
    );
    assert!(output.contains("in 30 windows like this one is at most 5.0 %"), "{output}");
    folder.done(&["drift", "reference.csv", "current.csv", "--html", "report.html"]);
    assert!(folder.read("report.html").contains("delay"));
}

#[test]
fn column_names_may_have_any_printable_character() {
    let named = |header: &str| (0..500).fold(format!("{header}\n"), |csv, row| csv + &format!("{row},{},z\n", row % 3));
    let csv = named("\"=1+1, \"\"x\"\"\",é 📈,-");
    let folder = two(&csv, &csv);
    let output = folder.done(&["drift", "reference.csv", "current.csv"]);
    assert!(output.contains("=1+1, \"x\"") && output.contains("é 📈"), "{output}");
    assert_eq!(folder.drift(&BOTH)["columns"][0]["name"], "=1+1, \"x\"");
    let output = two(&named("a\u{1b}[31m,b,c"), &csv).refused(&["drift", "reference.csv", "current.csv"], 1);
    assert!(output.contains("control character") && !output.contains('\u{1b}'), "{output}");
}

#[test]
fn statistics_use_the_convention_given() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let cases: Vec<&Value> =
        ["cases", "extra_cases"].iter().flat_map(|list| cases[*list].as_array().unwrap()).collect();
    for (id, convention, statistic) in [
        ("ev-psi-num-shift", "evidently", "/psi"),
        ("ev-psi-num-le20-unique", "evidently", "/psi"),
        ("ev-psi-cat-unseen", "evidently", "/psi"),
        ("ev-js-num-shift", "evidently", "/jensen_shannon"),
        ("ev-js-cat-unseen", "evidently", "/jensen_shannon"),
        ("ev-wasserstein-shift", "evidently", "/wasserstein"),
        ("ev-wasserstein-null-one-outlier", "evidently", "/wasserstein"),
        ("ev-ks-ties", "evidently", "/ks/p_value"),
        ("ev-chi2-cat", "evidently", "/chi_square/p_value"),
        ("sp-ks-10001-auto", "scipy", "/ks/p_value"),
        ("sp-w1-unequal-n", "scipy", "/wasserstein"),
    ] {
        let case = cases.iter().find(|case| case["id"] == id).unwrap();
        let folder = two(&csv(&case["input"]["ref"]), &csv(&case["input"]["cur"]));
        let output = folder.drift(&["reference.csv", "current.csv", "--convention", convention]);
        let expected =
            ["drift_score", "pvalue", "distance"].iter().find_map(|name| case["expected"][name].as_f64()).unwrap();
        let found = output["columns"][0].pointer(statistic).unwrap().as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{id}: {found} instead of {expected}");
        let own = folder.drift(&BOTH);
        for field in ["verdict", "effect", "p_value", "reason"] {
            assert_eq!(output["columns"][0][field], own["columns"][0][field], "{id}: {field}");
        }
    }
}

/// The values of a case as a CSV file with one column.
fn csv(input: &Value) -> String {
    values(input).into_iter().fold("x\n".to_owned(), |csv, value| csv + &value + "\n")
}

fn values(input: &Value) -> Vec<String> {
    let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(values) = input.as_array() {
        return values.iter().map(written).collect();
    }
    let list = |name: &str| input[name].as_array().unwrap().iter();
    match input["kind"].as_str().unwrap() {
        "rle" => list("pairs").flat_map(|pair| vec![written(&pair[0]); pair[1].as_u64().unwrap() as usize]).collect(),
        "concat" => list("parts").flat_map(values).collect(),
        "modseq" => {
            let (scale, shift) = (input["scale"].as_f64().unwrap_or(1.0), input["shift"].as_f64().unwrap_or(0.0));
            let value = |i: u64| (i * 7919 % 10_007) as f64 / 10_007.0 * scale + shift;
            (0..input["n"].as_u64().unwrap()).map(|i| value(i).to_string()).collect()
        }
        other => panic!("unknown generator {other}"),
    }
}

#[test]
fn errors_name_the_file_the_field_and_the_remedy() {
    let folder = Folder::with(&[
        ("good.csv", "a,b\n1,x\n2,y\n"),
        ("ragged.csv", "a,b\n1,x\n2\n"),
        ("twice.csv", "a,a\n1,2\n"),
        ("empty.csv", ""),
        ("other.json", "{\"a\": 1}"),
        ("damaged.parquet", "PAR1\u{15}\0 and no more"),
        ("semicolons.csv", "a;b\n1;x\n"),
        ("parents.csv", "PARENT_ID,x\n1,2\n"),
    ]);
    folder.done(&["profile", "good.csv", "-o", "good.json"]);
    for (arguments, code, words) in [
        (&["drift", "good.csv", "ragged.csv"][..], 1, &["ragged.csv", "line 3 has 1 fields"][..]),
        (&["drift", "twice.csv", "good.csv"], 1, &["twice.csv", "both named \"a\"", "rename"]),
        (&["drift", "good.csv", "empty.csv"], 1, &["empty.csv", "has no content"]),
        (&["drift", "nowhere.csv", "good.csv"], 1, &["nowhere.csv", "No such file"]),
        (&["drift", "other.json", "good.csv"], 1, &["other.json", "not a profile", "rekindle profile"]),
        (&["drift", "damaged.parquet", "good.csv"], 1, &["damaged.parquet", "Parquet"]),
        (&["drift", "semicolons.csv", "good.csv"], 1, &["semicolons.csv", "';'", "separator"]),
        (&["drift", "good.csv", "parents.csv", "--columns", "c"], 1, &["--columns", "\"c\""]),
        (&["drift", "good.csv", "good.csv", "--html", "good.csv"], 1, &["would replace good.csv", "another name"]),
        (&["profile", "good.csv", "-o", "./good.csv"], 1, &["would replace good.csv"]),
        (&["drift", "/dev/stdin", "good.csv"], 1, &["a pipe cannot be read twice", "save it to a file"]),
        (&["drift", "good.csv", "good.csv", "--ignore", "c"], 1, &["--ignore", "\"c\"", "a, b"]),
        (&["drift", "good.csv", "good.csv", "--columns", "c"], 1, &["--columns", "\"c\"", "a, b"]),
        (
            &["drift", "good.json", "good.csv", "--categorical", "a"],
            1,
            &["good.json", "rekindle profile FILE --categorical a"],
        ),
        (&["drift", "good.csv", "good.csv", "--ignore", "a,b"], 1, &["no column", "left"]),
        (&["drift", "good.csv", "good.csv", "--importance", "c=1"], 1, &["--importance", "\"c\""]),
        (&["drift", "good.csv", "good.csv", "--importance", "a=much"], 2, &["--importance", "not a number"]),
        (&["drift", "good.csv", "good.csv", "--html", "no/such/folder.html"], 1, &["no/such/folder.html"]),
    ] {
        let output = folder.refused(arguments, code);
        words.iter().for_each(|word| assert!(output.contains(word), "{arguments:?}: {word:?} is not in {output}"));
    }
    assert_eq!(folder.read("good.csv"), "a,b\n1,x\n2,y\n");
    let output = folder.run(&["drift", "good.csv", "parents.csv"]);
    assert!(output.status.success(), "a name that begins like the Parquet signature: {output:?}");
}

/// Hourly rows, by week, whose temperature and shop depend on the week.
fn hourly(weeks: std::ops::Range<u32>) -> String {
    let mut csv = "at,temperature,shop\n".to_owned();
    for hour in weeks.start * 168..weeks.end * 168 {
        let (week, noise) = (hour / 168, f64::from(hour * 7919 % 101) / 50.0);
        let time = chrono::DateTime::from_timestamp(1_357_171_200 + i64::from(hour) * 3600, 0).unwrap();
        let temperature = f64::from(week * 5 % 13) + noise;
        let shop = ["north", "south"][(hour % 24 / (8 + week % 3)).min(1) as usize];
        writeln!(csv, "{},{temperature:.3},{shop}", time.format("%Y-%m-%dT%H:%M:%SZ")).unwrap();
    }
    csv
}

#[test]
fn with_a_time_a_difference_is_drift_if_it_is_more_than_the_periods_of_the_reference_have() {
    let folder = two(&hourly(0..52), &hourly(57..58));
    let by_rows = folder.drift(&BOTH);
    assert_eq!((&by_rows["verdict"], &column(&by_rows, "temperature")["blocks"]), (&"drifted".into(), &Value::Null));
    let by_time = folder.drift(&["reference.csv", "current.csv", "--time", "at"]);
    let temperature = column(&by_time, "temperature");
    assert_eq!(temperature["verdict"], "stable", "{temperature}");
    assert_ne!(by_time["verdict"], "drifted", "{by_time}");
    assert_eq!(temperature["effect"], column(&by_rows, "temperature")["effect"], "both figures are there");
    let blocks = &temperature["blocks"];
    assert!(blocks["blocks"].as_u64().unwrap() >= 50 && blocks["largest_effect"].as_f64() > Some(0.5), "{blocks}");
    let table = folder.done(&["drift", "reference.csv", "current.csv", "--time", "at", "--block", "14d"]);
    assert!(table.contains("Beside the differences between") && table.contains("blocks of 14 days"), "{table}");
    folder.done(&["drift", "reference.csv", "current.csv", "--time", "at", "--html", "page.html"]);
    assert!(folder.read("page.html").contains("beside the blocks"));

    folder.write("current.csv", hourly(57..58).replace("north", "").as_bytes());
    let lost = folder.drift(&["reference.csv", "current.csv", "--time", "at"]);
    assert_eq!(column(&lost, "shop")["verdict"], "drifted", "{}", column(&lost, "shop"));

    folder.write("untimed.csv", b"temperature,shop\n1,north\n2,south\n");
    let untimed = folder.refused(&["drift", "reference.csv", "untimed.csv", "--time", "at"], 1);
    assert!(untimed.contains("--block is required"), "{untimed}");
    let number = folder.refused(&["drift", "reference.csv", "current.csv", "--time", "temperature"], 1);
    assert!(number.contains("--time") && number.contains("\"temperature\""), "{number}");
    folder.done(&["profile", "reference.csv", "-o", "reference.json"]);
    let profile = folder.refused(&["drift", "reference.json", "current.csv", "--time", "at"], 1);
    assert!(profile.contains("has no rows"), "{profile}");
    assert!(folder.refused(&["drift", "reference.csv", "current.csv", "--block", "7d"], 2).contains("--time"));
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_code() {
    let folder = two(&flights(2000, 0), &flights(2000, 30));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.args(["drift", "reference.csv", "current.csv", "--fail-on-drift"]).current_dir(folder.0.path());
    assert_eq!(command.stdout(writer).status().unwrap().code(), Some(3));
}

#[test]
fn an_inconclusive_verdict_can_fail_a_pipeline() {
    let folder = two(&flights(5000, 0), &flights(0, 0));
    let code = |current, flag| folder.run(&["drift", "reference.csv", current, flag]).status.code();
    // The second is the name that the option had before.
    for flag in ["--fail-on-inconclusive", "--fail-on-unknown"] {
        assert_eq!(code("current.csv", flag), Some(3), "{flag}");
        assert_eq!(code("reference.csv", flag), Some(0), "{flag}");
    }
}

#[test]
fn a_profile_can_use_the_kinds_of_its_reference() {
    let rows =
        |first: &str| (1..6000).fold(format!("x\n{first}\n"), |csv, row| csv + &format!("{}\n", row * 7919 % 997));
    let folder = two(&rows("1"), &rows("n/a"));
    folder.done(&["profile", "current.csv", "-o", "own.json"]);
    folder.done(&["profile", "current.csv", "--like", "reference.csv", "-o", "like.json"]);
    assert_eq!(column(&folder.drift(&["reference.csv", "like.json"]), "x")["verdict"], "stable");
    let output = folder.drift(&["reference.csv", "own.json"]);
    assert!(
        column(&output, "x")["reason"].as_str().unwrap().contains("changed from numeric to categorical"),
        "{output}"
    );
    assert!(output["notes"][0].as_str().unwrap().contains("rekindle profile FILE --like REFERENCE"), "{output}");
}

#[test]
fn texts_for_missing_values_are_configurable_and_suggested() {
    let rows = |gap: &str| {
        let value = |row: usize| if row.is_multiple_of(30) { gap.to_owned() } else { (row * 7919 % 997).to_string() };
        (0..6000).fold("x;y\n".to_owned(), |csv, row| csv + &format!("{};{row}\n", value(row)))
    };
    let folder = two(&rows("NA"), &rows("NA"));
    let output = folder.drift(&["reference.csv", "current.csv", "--separator", ";"]);
    assert_eq!(column(&output, "x")["kind"], "categorical");
    let note = output["notes"][0].as_str().unwrap();
    assert!(note.contains("\"x\"") && note.contains("\"NA\"") && note.contains("--missing"), "{note}");
    let output = folder.drift(&["reference.csv", "current.csv", "--separator", ";", "--missing", "NA,null"]);
    assert_eq!(
        (&column(&output, "x")["kind"], &column(&output, "x")["verdict"]),
        (&"numeric".into(), &"stable".into())
    );
    assert_eq!(output["notes"], serde_json::json!([]));
    let mixed = two(&rows(""), &rows("n/a")).drift(&["reference.csv", "current.csv", "--separator", ";"]);
    assert!(mixed["notes"][0].as_str().unwrap().contains("such as \"n/a\""), "{mixed}");
}

#[test]
fn timestamps_are_not_reported_as_unchanged() {
    let at =
        |year: u32| (0..2000).fold("at\n".to_owned(), |csv, row| csv + &format!("{year}-01-{:02}\n", 1 + row % 28));
    let output = two(&at(2013), &at(1970)).drift(&BOTH);
    let at = column(&output, "at");
    assert!(at["reason"].as_str().unwrap().contains("the timestamps themselves are not compared"), "{at}");
    assert_eq!((&at["psi"], &at["jensen_shannon"]), (&Value::Null, &Value::Null));
    // Codes that a lenient reader parses as dates.
    let codes = |first: u32| (0..2000).fold("code\n".to_owned(), |csv, row| csv + &format!("{first}-{}-1\n", row % 3));
    assert_eq!(column(&two(&codes(3), &codes(9)).drift(&BOTH), "code")["verdict"], "drifted");
}

#[test]
fn a_column_of_an_unsupported_type_is_not_reported_as_absent() {
    let folder = two("x,y\n1,2\n", "");
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..500).map(|row| Some(vec![Some(row)])));
    let numbers: Int64Array = (0..500).map(Some).collect();
    let batch = RecordBatch::try_from_iter([("x", Arc::new(lists) as ArrayRef), ("y", Arc::new(numbers))]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    folder.write("lists.parquet", &bytes);
    folder.write("reference.csv", flights(2000, 0).replace("delay,", "x,").as_bytes());
    let output = folder.drift(&["reference.csv", "lists.parquet"]);
    let (x, carrier) = (column(&output, "x"), column(&output, "carrier"));
    assert!(x["reason"].as_str().unwrap().contains("is not supported"), "{x}");
    assert_eq!(carrier["reason"], "the column is absent");
}
