//! Datasets, training, runs and models.

use std::io::Write as _;

use serde_json::Value;

use crate::{rows, world::World};

/// `dataset register`, `list`, `show`.
pub(crate) fn datasets(world: &World) {
    world.write("trips.csv", rows::csv(0..24, 24));
    let register = ["dataset", "register", "trips", "trips.csv", "--time", "time", "--kind", "company=categorical"];
    let once = [&register[..], &["--idempotency-key", "first", "--description", "first day"]].concat();
    let registered = world.text(&once);
    assert!(registered.contains("trips version 1") && registered.contains("1440"), "{registered}");
    let again = world.json(&once);
    assert_eq!((&again["version"], &again["rows"]), (&1.into(), &"1440".into()), "the key was used before: {again}");

    for list in [&["dataset", "list"][..], &["dataset", "list", "trips"]] {
        let text = world.text(list);
        assert!(text.contains("NAME") && text.contains("trips"), "{text}");
        assert_eq!(world.json(list)[0]["name"], "trips");
    }
    let shown = world.text(&["dataset", "show", "trips", "--version", "1"]);
    assert!(shown.contains("first day") && shown.contains("categorical") && shown.contains("Utf8"), "{shown}");
    let shown = world.json(&["dataset", "show", "trips"]);
    assert_eq!(shown["columns"][3]["kind"], "COLUMN_KIND_CATEGORICAL");
    assert_eq!((&shown["time_column"], &shown["description"]), (&"time".into(), &"first day".into()));
    declared_datasets(world);
}

/// `dataset register --schema`, `schema`, `head`, `diff`, `delete` and `restore`.
fn declared_datasets(world: &World) {
    world.write("cabs.csv", "at,fare,driver,zone\n2025-01-01,5.5,ann,north\n2025-01-02,7,bob,south\n");
    world.write(
        "cabs.yaml",
        "columns:\n  fare: {role: target, unit: USD, min: 0, required: true}\n  driver: {role: entity_key, sensitive: true}\n  \
         zone: {allowed: [north, south]}\nunique: [[driver, at]]\n",
    );
    let register = ["dataset", "register", "cabs", "cabs.csv", "--time", "at"];
    let made = world.json(&[&register[..], &["--schema", "cabs.yaml"]].concat());
    assert_eq!((made["schema"]["columns"].as_array().map(Vec::len), &made["version"]), (Some(3), &1.into()), "{made}");
    let file = world.text(&["dataset", "schema", "cabs"]);
    assert!(file.contains("\"fare\": {role: target, unit: \"USD\", required: true, min: 0}"), "{file}");
    assert_eq!(world.json(&["dataset", "schema", "cabs"]), made["schema"]);
    assert!(world.text(&["dataset", "show", "cabs"]).contains("target, in USD"));

    // The schema of the latest version applies.
    world.write(
        "cabs.csv",
        "at,fare,driver,zone\n2025-01-01,-5,ann,west\n2025-01-02,7,bob,south\n2025-01-03,9,ann,north\n",
    );
    let refused = world.error(1, &register);
    for named in ["fare", "row 1 (-5)", "zone", "row 1 (west)"] {
        assert!(refused.contains(named), "{refused}");
    }
    let accepted = world.run(&[&register[..], &["--accept-violations"]].concat());
    assert!(accepted.code == 0 && accepted.err.contains("note: columns[fare].min: 1 row"), "{accepted:?}");
    let plain = world.json(&[&register[..], &["--no-schema"]].concat());
    assert_eq!((&plain["version"], &plain["schema"]), (&3.into(), &Value::Null), "{plain}");
    world.write("bad.yaml", "columns: {fare: {requird: true}}");
    assert!(world.error(1, &[&register[..], &["--schema", "bad.yaml"]].concat()).contains("requird"));

    let head = world.text(&["dataset", "head", "cabs", "--version", "2", "-n", "1"]);
    assert!(head.lines().count() == 2 && head.contains("west") && !head.contains("ann"), "{head}");
    let rows = world.json(&["dataset", "head", "cabs", "--version", "2", "--skip", "2"]);
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(1), "{rows}");
    let diff = world.text(&["dataset", "diff", "cabs", "--version", "2"]);
    assert!(diff.contains("2 → 3 (+1)") && diff.contains("min 5.5000 → -5.0000"), "{diff}");
    let diff = world.json(&["dataset", "diff", "cabs", "--base-name", "trips"]);
    assert!(
        diff["changes"].as_array().is_some_and(|all| all.iter().any(|one| one["differences"][0] == "added")),
        "{diff}"
    );

    assert!(world.text(&["dataset", "delete", "cabs", "--version", "3", "--why", "no schema"]).contains("version 3"));
    assert_eq!(world.json(&["dataset", "show", "cabs"])["version"], 2);
    assert_eq!(world.json(&["dataset", "restore", "cabs"])["restored"], serde_json::json!([3]));
    assert!(world.text(&["dataset", "restore", "cabs"]).contains("no version"));
    assert_eq!(world.json(&["dataset", "delete", "cabs"])["deleted"], serde_json::json!([1, 2, 3]));
}

/// `dataset register` of files that are written otherwise, and of several files whose columns differ.
pub(crate) fn files_as_people_write_them(world: &World) {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("compressed")
    };
    world.write("sales.csv.gz", gzip(";day;price;sold\n0;31/12/2024;1,50;7\n1;01/01/2025;NA;-999\n"));
    let register = ["dataset", "register", "sales", "sales.csv.gz", "--time", "day"];
    assert!(world.error(1, &register).contains("is one field; if ';' is the field delimiter, set it"));
    let separated = [&register[..], &["--separator", ";"]].concat();
    let refused = world.error(1, &separated);
    assert!(refused.contains("\"day\" is Utf8; expected a timestamp"), "{refused}");
    let options = ["--time-format", "day-first", "--missing", "NA,-999"];
    let registered = world.run(&[&separated[..], &options].concat());
    assert_eq!(registered.code, 0, "{registered:?}");
    assert!(registered.out.contains("sales version 1") && registered.out.contains("2024-12-31"), "{registered:?}");
    for note in
        ["\"column 1\" has no name of its own", "\"price\" is read as text since it has numbers with a decimal comma"]
    {
        assert!(registered.err.contains(&format!("note: sales.csv.gz: {note}")), "{registered:?}");
    }
    let shown = world.json(&["dataset", "show", "sales"]);
    let types: Vec<_> =
        shown["columns"].as_array().expect("columns").iter().map(|column| &column["data_type"]).collect();
    assert_eq!(types, ["Int64", "Timestamp(ms)", "Utf8", "Int64"]);
    assert_eq!((&shown["profile"][2]["missing"], &shown["profile"][3]["missing"]), (&"1".into(), &"1".into()));

    world.write("jan.csv", "day,price,sold\n2025-01-01 10:30,1,7\n");
    world.write("feb.csv", "day,price,store\n2025-02-01T10:30Z,2.5,x\n");
    let joined = world.run(&["dataset", "register", "sales", "jan.csv", "feb.csv", "--time", "day"]);
    assert_eq!(joined.code, 0, "{joined:?}");
    for note in [
        "jan.csv lacks store, missing in its rows",
        "feb.csv lacks sold, missing in its rows",
        "\"price\" becomes Float64: it is Int64 in jan.csv",
        "columns that are not in sales/1: store",
        "columns that are absent, but are in sales/1: column 1",
        "\"price\" is Float64; it is Utf8 in sales/1",
    ] {
        assert!(joined.err.contains(&format!("note: {note}\n")), "{joined:?}");
    }
    world.write("infinite.csv", "x,y\n1.5,a\ninf,b\n");
    let infinite = ["dataset", "register", "infinite", "infinite.csv"];
    let refused = world.error(1, &infinite);
    assert!(
        refused.contains("column \"x\", row 1: inf is not a finite number; declare it as missing (inf)"),
        "{refused}"
    );
    world.text(&[&infinite[..], &["--missing", "inf"]].concat());
}

/// `train`, `runs list`, `show`, `compare`. Returns the ids of two successful runs, which registered the versions 1 and 2 of `tips`.
pub(crate) fn runs(world: &World) -> [String; 2] {
    let train = ["train", "trips", "--target", "tip", "--ignore", "id", "--model", "tips"];
    let quick = ["--architecture", "linear", "--epochs", "4", "--wait"];
    let first = world.text(&[&train[..], &quick, &["--description", "baseline"]].concat());
    assert!(first.contains("finished") && first.contains("model_version 1"), "{first}");
    let second = world.json(&[&train[..], &quick, &["--seed", "2", "--experiment", "seeds"]].concat());
    assert_eq!((&second["status"], &second["outputs"]["model_version"]), (&"RUN_STATUS_FINISHED".into(), &"2".into()));

    let submit = ["train", "trips", "--target", "tip", "--epochs", "1", "--architecture", "linear", "--json"];
    let submitted = world.run(&submit);
    assert!(submitted.out.contains("\"id\""), "without --wait the run is submitted: {submitted:?}");
    let warnings: Vec<&str> = submitted.err.lines().collect();
    assert!(warnings.len() == 2 && warnings[0].contains("id is a running number"), "{warnings:?}");
    assert!(warnings[1].ends_with("--ignore id"), "{warnings:?}");
    let failed = world.run(&["train", "trips", "--target", "id", "--ignore", "time,fare,company,tip", "--wait"]);
    assert_eq!(failed.code, 3, "no feature is left: {failed:?}");
    assert!(failed.out.contains("failed") && failed.out.contains("error:"), "{failed:?}");

    let listed = world.text(&["runs", "list", "--limit", "2"]);
    assert_eq!(listed.lines().count(), 3, "a header and two runs: {listed}");
    let of_seeds = world.json(&["runs", "list", "--experiment", "seeds"]);
    assert_eq!((of_seeds.as_array().map(Vec::len), &of_seeds[0]["id"]), (Some(1), &second["id"]));
    let of_tips = world.json(&["runs", "list", "--experiment", "tips"]);
    let ids = [&of_tips[0]["id"], &second["id"]].map(|id| id.as_str().expect("an id").to_owned());

    let shown = world.text(&["runs", "show", &ids[0]]);
    assert!(shown.contains("recipe.model.kind = linear") && shown.contains("datasets:"), "{shown}");
    // The first twelve digits are a time, and the next three are random.
    assert_eq!(world.json(&["runs", "show", &ids[1][..18]])["seed"], "2");
    let ambiguous = world.error(1, &["runs", "show", &ids[1][..4]]);
    assert!(ambiguous.contains("several ids begin so") && ambiguous.contains("give more digits"), "{ambiguous}");
    assert!(world.error(2, &["runs", "show", "12"]).contains("its first digits, at least 4"));
    let unknown = world.error(1, &["runs", "show", &ids[1], "--history", "no"]);
    assert!(unknown.contains("\"no\": expected one of") && unknown.contains("log_loss"), "{unknown}");
    let metric = second["metrics"][0]["name"].as_str().expect("a metric");
    let history = world.json(&["runs", "show", &ids[1], "--history", metric]);
    assert!(history.as_array().is_some_and(|points| points.iter().all(|point| point["name"] == metric)), "{history}");
    assert!(world.text(&["runs", "show", &ids[1], "--history", metric]).trim_start().starts_with("STEP"));

    world.text(&["runs", "tag", &ids[0][..18], "team=risk", "draft=yes"]);
    let tagged = world.json(&["runs", "tag", &ids[0], "note=a=b", "--delete", "draft"]);
    assert_eq!((&tagged["tags"]["team"], &tagged["tags"]["note"]), (&"risk".into(), &"a=b".into()));
    assert!(tagged["tags"].get("draft").is_none(), "{tagged}");
    let by_score = ["runs", "list", "--filter", "tags.team = 'risk' OR params.recipe.seed = 2", "--sort"];
    let sorted = world.json(&[&by_score[..], &["-created_at"]].concat());
    assert_eq!((&sorted[0]["id"], &sorted[1]["id"]), (&second["id"], &of_tips[0]["id"]), "{sorted}");
    assert_eq!(world.json(&[&by_score[..], &["created_at,id"]].concat())[0]["id"], of_tips[0]["id"]);
    assert!(world.error(1, &["runs", "list", "--filter", "weight > 3"]).contains("unknown attribute"));
    let sample = world.json(&["runs", "show", &ids[1], "--history", metric, "--points", "4"]);
    assert!(sample.as_array().is_some_and(|points| (1..=4).contains(&points.len())), "{sample}");
    let used = world.error(1, &["runs", "delete", &ids[1], "--why", "obsolete"]);
    assert!(used.contains("it made model-version/tips/"), "{used}");
    runs_without_a_model(world);
    cancelled_runs(world);
    searched_runs(world);
    let compared = world.text(&["runs", "compare", &ids[0][..18], &ids[1]]);
    assert!(compared.lines().any(|line| line.trim_start().starts_with("recipe.seed")), "{compared}");
    let compared = world.json(&["runs", "compare", &ids[0], &ids[1]]);
    assert_eq!((&compared[0]["id"], &compared[1]["id"]), (&ids[0].as_str().into(), &ids[1].as_str().into()));
    ids
}

/// `runs delete` and `restore` of a training that registered no model.
fn runs_without_a_model(world: &World) {
    let train = ["train", "trips", "--target", "tip", "--ignore", "id", "--experiment", "trial"];
    let run = world.json(&[&train[..], &["--architecture", "linear", "--epochs", "1", "--wait"]].concat());
    let id = run["id"].as_str().expect("an id").to_owned();
    let deleted = world.json(&["runs", "delete", &id, "--why", "obsolete"]);
    assert!(deleted["deleted_at"].is_string(), "{deleted}");
    assert_eq!(world.json(&["runs", "list", "--experiment", "trial"]), serde_json::json!([]));
    assert!(world.text(&["runs", "restore", &id]).contains("trial"));
    assert!(world.json(&["runs", "restore", &id])["deleted_at"].is_null());
    assert_eq!(world.json(&["runs", "list", "--experiment", "trial"])[0]["id"], id.as_str());
}

/// `runs cancel`.
fn cancelled_runs(world: &World) {
    let optimizer = r#"{"max_epochs":1000,"patience":1000,"batch_size":1}"#;
    let model = format!(r#"{{"kind":"mlp","optimizer":{optimizer}}}"#);
    world.write("endless.json", format!(r#"{{"target":"tip","ignore":["id"],"model":{model}}}"#));
    for is_json in [false, true] {
        let submitted = world.json(&["train", "trips", "--recipe", "endless.json", "--experiment", "endless"]);
        let id = submitted["id"].as_str().expect("an id").to_owned();
        let cancel = ["runs", "cancel", &id, "--why", "wrong dataset"];
        let status = if is_json { world.json(&cancel)["status"].to_string() } else { world.text(&cancel) };
        assert!(status.to_lowercase().contains("killed"), "{status}");
    }
    assert!(world.error(4, &["runs", "cancel", "0199a7c2"]).contains("does not exist"));
}

/// `train --auto`.
fn searched_runs(world: &World) {
    let train = ["train", "trips", "--target", "tip", "--ignore", "id", "--experiment", "searched", "--wait"];
    let search = ["--architecture", "linear", "--epochs", "2", "--auto", "--trials", "2", "--budget", "1m"];
    let run = world.json(&[&train[..], &search].concat());
    assert_eq!(run["params"]["search.models"], "true", "{run}");
    let id = run["id"].as_str().expect("an id");
    let trials = world.json(&["runs", "list", "--filter", &format!("parent_id = '{id}'")]);
    assert_eq!(trials.as_array().map(Vec::len), Some(2), "{trials}");
    assert!(world.error(2, &[&train[..], &["--search", "models,none"]].concat()).contains("not both"));
    assert!(world.error(2, &[&train[..], &["--auto", "--trials", "0"]].concat()).contains("--trials"));
}

/// `rebuild`.
pub(crate) fn rebuilds(world: &World) {
    let rebuilt = world.json(&["rebuild", "tips", "1"]);
    assert_eq!((&rebuilt["is_equal"], &rebuilt["different"]), (&true.into(), &serde_json::json!([])), "{rebuilt}");
    assert!(rebuilt["equal"].as_array().is_some_and(|blobs| blobs.contains(&"weights".into())), "{rebuilt}");
    let text = world.text(&["rebuild", "tips", "2"]);
    assert!(text.contains("equal") && text.contains("weights"), "{text}");
    assert!(world.error(4, &["rebuild", "tips", "99"]).contains("tips/99"));
}

/// `models list`, `show`, `versions`, `history`, `approve`, `reject`, and `promote`.
pub(crate) fn models(world: &World, runs: &[String; 2]) {
    let promoted = world.text(&["promote", "tips", "1", "--why", "first model", "--by", "alice"]);
    assert!(promoted.contains("champion of tips"), "{promoted}");
    let promoted = world.json(&["promote", "tips", "2", "--alias", "candidate", "--expected-revision", "0"]);
    assert_eq!((&promoted["version"], &promoted["by"]), (&2.into(), &"tester".into()), "USER is the default author");
    let stale = world.error(1, &["promote", "tips", "1", "--alias", "candidate", "--expected-revision", "7"]);
    assert!(stale.contains("revision"), "{stale}");

    let listed = world.text(&["models", "list"]);
    assert!(listed.contains("champion 1") && listed.contains("candidate 2"), "{listed}");
    assert_eq!(world.json(&["models", "list"])[0]["latest"]["version"], 2);
    let versions = world.text(&["models", "versions", "tips"]);
    assert_eq!(versions.lines().count(), 3, "{versions}");
    assert_eq!(world.json(&["models", "versions", "tips", "--limit", "1"])[0]["run_id"], runs[1].as_str());

    let rejected = world.text(&["models", "reject", "tips", "2", "--by", "bob", "--why", "too slow"]);
    assert!(rejected.contains("rejected by bob") && rejected.contains("too slow"), "{rejected}");
    assert_eq!(world.json(&["models", "reject", "tips", "2"])["review"]["by"], "tester");
    assert!(
        world.error(1, &["deploy", "tips", "--version", "2"]).contains("reject"),
        "a rejected version is not served"
    );
    let approved = world.json(&["models", "approve", "tips", "2", "--by", "carol"]);
    assert_eq!(
        (&approved["review"]["approval"], &approved["review"]["by"]),
        (&"APPROVAL_APPROVED".into(), &"carol".into())
    );
    assert!(world.text(&["models", "approve", "tips", "1"]).contains("approved by tester"));

    let shown = world.text(&["models", "show", "tips", "champion"]);
    assert!(shown.contains("tips version 1") && shown.contains("baseline"), "{shown}");
    assert_eq!(world.json(&["models", "show", "tips"])["version"], 2, "the latest");
    let history = world.text(&["models", "history", "tips"]);
    assert!(history.contains("alice") && history.contains("first model"), "{history}");
    let history = world.json(&["models", "history", "tips", "--alias", "candidate"]);
    assert_eq!((history.as_array().map(Vec::len), &history[0]["version"]), (Some(1), &2.into()));
    changes_of_models(world);
    audit(world);
    blobs(world);
}

/// `blobs gc` and `scrub`.
fn blobs(world: &World) {
    let counted = world.text(&["blobs", "gc", "--dry-run"]);
    assert!(counted.contains("would be deleted"), "{counted}");
    let collected = world.json(&["blobs", "gc", "--grace", "1h"]);
    assert_eq!(collected["deleted"], "0", "nothing is that old: {collected}");
    assert!(world.error(1, &["blobs", "gc", "--grace", "1s"]).contains("grace"));
    assert!(world.text(&["blobs", "scrub"]).contains("none"));
    assert_eq!(world.json(&["blobs", "scrub"])["corrupt"], serde_json::json!([]));
}

/// `models update`, `delete`, `restore`, `reviews`, `card`, `swap`, `unalias`, `protect`, and `history --as-of`.
fn changes_of_models(world: &World) {
    let update = ["models", "update", "tips", "team=food", "--title", "Tips (US)", "--description", "how generous"];
    let updated = world.text(&update);
    assert!(updated.contains("Tips (US)") && updated.contains("team=food"), "{updated}");
    assert_eq!(world.json(&["models", "update", "tips", "--delete", "team"])["tags"], serde_json::json!({}));
    let version = world.json(&["models", "update", "tips", "--version", "2", "checked=yes"]);
    assert_eq!(version["tags"]["checked"], "yes");
    assert!(world.text(&["models", "list"]).contains("Tips (US)"));

    let evidence = ["models", "approve", "tips", "2", "--evidence", "report=r-17", "--by", "erin"];
    assert_eq!(world.json(&evidence)["review"]["evidence"]["report"], "r-17");
    let reviews = world.text(&["models", "reviews", "tips", "2"]);
    assert!(reviews.contains("report=r-17") && reviews.contains("too slow"), "{reviews}");
    assert_eq!(world.json(&["models", "reviews", "tips", "2", "--limit", "1"])[0]["by"], "erin");

    let card = world.text(&["models", "card", "tips", "1"]);
    assert!(card.starts_with("---\nlibrary_name: \"burn\"\n") && card.contains("\n---\n\n# tip\n"), "{card}");
    world.write("card.md", "# Tips\n\nAsk the kitchen.\n");
    assert_eq!(
        world.json(&["models", "card", "tips", "1", "--set", "card.md"])["card"],
        "# Tips\n\nAsk the kitchen.\n"
    );
    assert!(world.text(&["models", "card", "tips", "1"]).contains("Ask the kitchen"));
    let body = card.split_once("\n---\n").expect("a head").1;
    assert!(world.text(&["models", "card", "tips", "1", "--original"]).ends_with(body));
    let none = world.error(1, &["models", "evaluation", "tips", "1"]);
    assert!(none.contains("was not evaluated"), "{none}");

    let swapped = world.text(&["models", "swap", "tips", "champion", "candidate", "--why", "as a test"]);
    assert!(swapped.contains("champion") && swapped.contains("candidate"), "{swapped}");
    let back = world.json(&["models", "swap", "tips", "champion", "candidate"]);
    assert_eq!((&back[0]["alias"], &back[0]["version"]), (&"champion".into(), &1.into()), "{back}");
    let as_of = world.json(&["models", "history", "tips", "--as-of", back[0]["moved_at"].as_str().expect("a time")]);
    assert_eq!(as_of[0]["revision"], back[0]["revision"]);
    assert_eq!(world.json(&["models", "history", "tips", "--as-of", "2000-01-01"]), serde_json::json!([]));
    world.json(&["promote", "tips", "1", "--alias", "old"]);
    let removed = world.text(&["models", "unalias", "tips", "old", "--why", "unused"]);
    assert!(removed.contains("deleted"), "{removed}");
    world.json(&["promote", "tips", "1", "--alias", "old"]);
    assert_eq!(world.json(&["models", "unalias", "tips", "old"])[0]["deleted"], true);
    assert!(world.error(1, &["models", "delete", "tips", "1"]).contains("champion"), "it has an alias");

    let protected = ["models", "protect", "tips", "--alias", "audited", "--approvals", "3", "--except-author"];
    assert!(world.text(&protected).contains('3'));
    assert_eq!(world.json(&["models", "protect", "tips", "--alias", "audited"])["approvals"], 3);
    let refused = world.error(1, &["promote", "tips", "2", "--alias", "audited"]);
    assert!(refused.contains("protected") && refused.contains("of 3 approvals"), "{refused}");
    world.json(&["promote", "tips", "2", "--alias", "candidate"]);
    world.json(&["models", "unalias", "tips", "candidate"]);
    let deleted = world.text(&["models", "delete", "tips", "2", "--why", "a test"]);
    assert!(deleted.contains("tips version 2"), "{deleted}");
    assert_eq!(world.json(&["models", "delete", "tips", "2"])["deleted"], "tips version 2");
    assert!(world.error(1, &["deploy", "tips", "--version", "2"]).contains("deleted"));
    assert!(world.text(&["models", "restore", "tips", "2"]).contains("Tips (US)"));
    assert_eq!(world.json(&["models", "restore", "tips", "2"])["latest"]["version"], 2);
    world.json(&["promote", "tips", "2", "--alias", "candidate"]);
}

/// `audit list`, `export` and `verify`.
fn audit(world: &World) {
    let moves = world.text(&["audit", "list", "--action", "alias.moved", "--actor", "alice"]);
    assert!(moves.contains("alias/tips") && moves.contains("first model"), "{moves}");
    let listed =
        world.json(&["audit", "list", "--service", "registry", "--object", "model-version/tips", "--limit", "3"]);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["service"]), (Some(3), &"registry".into()), "{listed}");
    let exported = world.text(&["audit", "export", "--service", "registry", "--action", "alias"]);
    let first: serde_json::Value = serde_json::from_str(exported.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["actor"], &first["action"]), (&"alice".into(), &"alias.moved".into()), "{first}");
    let last = world.last_json_line(0, &["audit", "export", "--service", "registry"]);
    assert!(last["hash"].is_string() && last["service"] == "registry", "{last}");
    let verified = world.text(&["audit", "verify"]);
    assert_eq!(verified.matches("complete").count(), 3, "{verified}");
    let verified = world.json(&["audit", "verify", "--service", "registry"]);
    assert_eq!(verified["trails"][0]["service"], "registry");
}
