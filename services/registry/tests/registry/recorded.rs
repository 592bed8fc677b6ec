//! The filled database of release 0.1.0 is migrated and read, on SQLite and on PostgreSQL: datasets, runs, metrics, model versions, aliases
//! with their history, lineage, idempotency keys and the outbox. Then records are changed, and bundles of the recorded object store are
//! registered.

mod changes;
mod restored;

use std::collections::BTreeMap;

use rekindle_client::{PageRequest, registry::RunSearch};
use rekindle_domain::{
    Alias, AliasName, ColumnKind, Digest, RunId,
    dataset::{Column, ColumnSummary, DatasetVersion, ValueCount},
    model_version::{Approval, ModelVersion, RegisteredModel, Review, VersionSelector, VersionStatus},
    run::{Metric, Run, RunStatus},
};

use self::{
    changes::{
        aliases_reviews_and_runs_change_from_their_recorded_revisions, events_in_the_outbox_are_published,
        recorded_bundles_are_registered_again, recorded_keys_have_the_recorded_result,
    },
    restored::{Restored, digest, model, name, time},
};

macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(super::Restored::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(super::Restored::on_postgres().await).await;
            })*
        }
    };
}

on_both!(
    datasets_read_back,
    runs_read_back,
    metrics_read_back,
    model_versions_read_back,
    aliases_and_their_history_read_back,
    lineage_reads_back,
    aliases_reviews_and_runs_change_from_their_recorded_revisions,
    recorded_bundles_are_registered_again,
    recorded_keys_have_the_recorded_result,
    events_in_the_outbox_are_published,
);

const LINEAR: &str = "sha256:c284b79ab6af260054adf12ec700c012dead89a8656876a00da7e14e1aad980d";
const CHAMPION: &str = "sha256:9c0b617d1d9574e890a408cb3da138cb471ebbee633c7dca347dace6c7b7da94";
const CHALLENGER: &str = "sha256:a240b62e7f75fbd3bd0a3a9dec665180f81e9a9cc45871a434e19e1f9791993d";
/// The content of the dataset `flights`, by version.
const FLIGHTS_1: &str = "sha256:74263378456e0326f5a62d1ca73e3bccdbbec2ffe9e9d504728de991bafdee2d";
const FLIGHTS_2: &str = "sha256:95d2e90f1ce545b0c635ae034a64b8f861c27c9bd73cfdf6d2761549c58fd56e";
const FLIGHTS_3: &str = "sha256:5062eccf2a1d65ed17d65cf80f62eed485b7af1f260644d173fdd2a6e34543dd";
const PASSED: &str = "the challenger is better: the mean loss falls by 1.8770 from 2.6181, with 90 % confidence by \
                      at least 1.6159";
/// The run that trained version 1 of `late`; its id is its idempotency key, too.
const FIRST_RUN: &str = "01a21ff8-2120-7514-8c60-5ca5e353bc38";
const RUNNING: &str = "7c4b0645-50c8-8aea-8b66-571c64195985";

fn run_id(text: &str) -> RunId {
    text.parse().expect("an id")
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn numbers(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

async fn datasets_read_back(restored: Restored) {
    let flights = name("flights");
    let latest = restored.registry.datasets(PageRequest::default()).await.expect("a list").items;
    assert_eq!(latest.iter().map(DatasetVersion::reference).collect::<Vec<_>>(), ["flights/8"]);
    let versions = restored.registry.dataset_versions(&flights, PageRequest::default()).await.expect("a list").items;
    let rows: Vec<(u32, u64)> = versions.iter().map(|version| (version.version, version.rows)).collect();
    assert_eq!(rows, [(8, 680), (7, 1205), (3, 706), (2, 600), (1, 300)]);
    assert_eq!(versions[4].profile[3], dep_delay());
    assert_eq!(versions[4].profile.len(), 6);
    assert_eq!(DatasetVersion { profile: Vec::new(), ..versions[4].clone() }, first_dataset());

    let third = restored.registry.dataset(&flights, Some(3)).await.expect("recorded");
    let export = "sha256:1dfc07742555ff0350d5f1c822fd237a8efd9c2aadf8fcf755633b99b5a4fcde";
    assert_eq!(third.parents, [digest(FLIGHTS_1), digest(export)]);
    assert_eq!(third.description, "406 labelled rows captured for workflow 01a21ff8-2ffe-713c-a6b2-27404d673c0a");
    assert_eq!(third.time_range, Some((time("2026-01-01T00:00:00Z"), time("2026-01-18T16:00:00Z"))));
}

fn first_dataset() -> DatasetVersion {
    let column = |name: &str, data_type: &str, kind, nullable| Column {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        kind,
        nullable,
    };
    DatasetVersion {
        name: name("flights"),
        version: 1,
        content: digest(FLIGHTS_1),
        blob: digest("sha256:da76ebddde26aeb6be70f472d7b45b5c13ab759ff990940728ebc082405ca0f7"),
        rows: 300,
        bytes: 4841,
        columns: vec![
            column("time", "Timestamp(ms)", ColumnKind::Timestamp, false),
            column("origin", "Utf8", ColumnKind::Categorical, false),
            column("distance", "Int64", ColumnKind::Numeric, false),
            column("dep_delay", "Float64", ColumnKind::Numeric, true),
            column("late", "Int64", ColumnKind::Numeric, false),
            column("arr_delay", "Float64", ColumnKind::Numeric, false),
        ],
        time_column: Some("time".to_owned()),
        time_range: Some((time("2026-01-01T00:00:00Z"), time("2026-01-07T23:26:24Z"))),
        parents: Vec::new(),
        description: "the first week".to_owned(),
        profile: Vec::new(),
        created_at: time("2026-11-28T02:24:44.733108Z"),
        schema: None,
        violations: Vec::new(),
        deleted_at: None,
    }
}

fn dep_delay() -> ColumnSummary {
    let top = ["-2.6", "15.3", "17.8", "2.3", "21.5", "25.7", "32.4", "5.4", "6.3"].map(|value| (value, 3));
    let top = [("10.2", 4)].into_iter().chain(top);
    ColumnSummary {
        name: "dep_delay".to_owned(),
        missing: 1,
        distinct: 232,
        min: Some(-23.9),
        max: Some(71.1),
        mean: Some(10.727_090_301_003_338),
        std: Some(14.922_139_149_842_245),
        top: top.map(|(value, count)| ValueCount { value: value.to_owned(), count }).collect(),
    }
}

async fn runs_read_back(restored: Restored) {
    use RunStatus::{Failed, Finished, Killed, Running};
    let all = restored.registry.runs(&RunSearch::default(), PageRequest::default()).await.expect("a list").items;
    let statuses: Vec<RunStatus> = all.iter().map(|run| run.status).collect();
    let finished = [Finished; 3];
    let expected =
        [&[Running, Finished, Finished, Killed][..], &finished, &[Failed, Finished, Finished, Finished]].concat();
    assert_eq!(statuses, expected);
    let late = RunSearch { experiment: Some(name("late")), ..RunSearch::default() };
    assert_eq!(restored.registry.runs(&late, PageRequest::default()).await.expect("a list").items.len(), 7);

    let first = restored.registry.run(run_id(FIRST_RUN)).await.expect("recorded");
    assert_eq!(Run { metrics: Vec::new(), ..first }, first_run());
    let failed = &all[7];
    assert_eq!(failed.error, "column origin: regression needs a column of numbers: choose another target or task");
    assert_eq!(all[3].error, "cancelled by operator: not needed");
    let running = restored.registry.run(run_id(RUNNING)).await.expect("recorded");
    assert_eq!((&running, running.ended_at, running.revision), (&all[0], None, 2));
    assert_eq!(running.tags["workflow"], "01a21ff8-69e9-7026-b79a-1d98a34bac63");
}

fn first_run() -> Run {
    Run {
        id: run_id(FIRST_RUN),
        parent_id: None,
        experiment: name("first-models"),
        status: RunStatus::Finished,
        params: first_run_params(),
        tags: texts(&[(
            "rekindle.job-digest",
            "sha256:4a22050d94225d31b6ad810ceddf79846cd9a035147b18c31eac987713f82c69",
        )]),
        code_revision: "5e696986b1a213623236906b2ac7fd56ae874434".to_owned(),
        dataset_digests: vec![digest(FLIGHTS_1)],
        seed: 11,
        metrics: Vec::new(),
        outputs: texts(&[("bundle", LINEAR), ("model_version", "1")]),
        error: String::new(),
        created_at: time("2026-11-28T02:24:44.834235Z"),
        started_at: Some(time("2026-11-28T02:24:44.839063Z")),
        ended_at: Some(time("2026-11-28T02:24:44.927412Z")),
        progress: None,
        deleted_at: None,
        revision: 3,
    }
}

fn first_run_params() -> BTreeMap<String, String> {
    texts(&[
        ("dataset.name", "flights"),
        ("dataset.version", "1"),
        ("recipe.architecture.kind", "linear"),
        ("recipe.batch_size", "32"),
        ("recipe.ignore", r#"["arr_delay"]"#),
        ("recipe.learning_rate", "0.02"),
        ("recipe.max_epochs", "12"),
        ("recipe.patience", "3"),
        ("recipe.seed", "11"),
        ("recipe.target", "late"),
        ("recipe.task", "binary"),
        ("recipe.validation_share", "0.2"),
        ("recipe.weight_decay", "0.001"),
        ("train_until", ""),
        ("work", "train"),
    ])
}

async fn metrics_read_back(restored: Restored) {
    let history = restored.registry.metric_history(run_id(FIRST_RUN), "log_loss", PageRequest::default());
    let history = history.await.expect("recorded").items;
    let first = Metric {
        name: "log_loss".to_owned(),
        value: 0.672_841_294_830_543,
        step: 1,
        time: Some(time("2026-11-28T02:24:44.848964Z")),
    };
    assert_eq!(history[0], first);
    let (steps, last) = (history.iter().map(|metric| metric.step), history.last().expect("twelve"));
    assert_eq!(steps.collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(last.value, 0.460_257_487_435_045_7);

    let evaluation = restored.registry.run(run_id("355ebca9-c081-881c-942f-958a5b6cb78b")).await.expect("recorded");
    assert_eq!(evaluation.outputs["verdict"], "pass");
    let metrics: BTreeMap<String, f64> =
        evaluation.metrics.iter().map(|metric| (metric.name.clone(), metric.value)).collect();
    let expected = numbers(&[
        ("challenger.accuracy", 0.450_617_283_950_617_3),
        ("challenger.auc", 0.306_818_181_818_181_8),
        ("challenger.brier", 0.273_421_056_225_792_94),
        ("challenger.log_loss", 0.741_098_411_696_442_6),
        ("champion.accuracy", 0.450_617_283_950_617_3),
        ("champion.auc", 0.170_915_233_415_233_4),
        ("champion.brier", 0.525_405_848_417_764_5),
        ("champion.log_loss", 2.618_123_611_442_592_8),
        ("improvement", 1.877_025_199_746_149_8),
        ("rows", 162.0),
    ]);
    assert_eq!(metrics, expected);
}

async fn model_versions_read_back(restored: Restored) {
    let models = restored.registry.models(PageRequest::default()).await.expect("a list").items;
    let latest = |model: &RegisteredModel| model.latest.as_ref().map_or(0, |latest| latest.version);
    let latest: Vec<(&str, u32, usize)> =
        models.iter().map(|model| (model.name.as_str(), latest(model), model.aliases.len())).collect();
    assert_eq!(latest, [("arrival", 1, 1), ("late", 6, 2), ("late-linear", 2, 2)]);

    let versions =
        restored.registry.model_versions(&model("late"), PageRequest::default()).await.expect("a list").items;
    let reviews: Vec<(u32, Approval, &str, u64)> = versions
        .iter()
        .map(|version| (version.version, version.review.approval, version.review.by.as_str(), version.revision))
        .collect();
    let expected = [
        (6, Approval::Pending, "", 1),
        (5, Approval::Rejected, "gate", 2),
        (4, Approval::Rejected, "gate", 2),
        (3, Approval::Approved, "gate", 2),
        (2, Approval::Approved, "approver", 3),
        (1, Approval::Approved, "operator", 2),
    ];
    assert_eq!(reviews, expected);
    assert_eq!(versions[3], champion());
    assert_eq!((versions[0].review.at, versions[5].review.why.as_str()), (None, "reads well"));

    let by_alias = VersionSelector::Alias(name("champion"));
    assert_eq!(restored.registry.model_version(&model("late"), &by_alias).await.expect("recorded"), champion());
    let latest = restored.registry.model_version(&model("late"), &VersionSelector::Latest).await.expect("recorded");
    assert_eq!((latest.version, latest.bundle, latest.aliases), (6, digest(CHALLENGER), vec!["challenger".to_owned()]));
}

fn champion() -> ModelVersion {
    ModelVersion {
        model: model("late"),
        version: 3,
        status: VersionStatus::Ready,
        status_reason: String::new(),
        bundle: digest(CHAMPION),
        run: Some(run_id("06139719-50f1-8118-a04f-63fa634dc827")),
        description: "challenger of workflow 01a21ff8-2ffe-713c-a6b2-27404d673c0a: drift in the window until \
                      2026-01-18T00:00:00Z: dep_delay 52%, (prediction) 37%, origin 11%"
            .to_owned(),
        tags: BTreeMap::new(),
        author: String::new(),
        review: Review {
            approval: Approval::Approved,
            by: "gate".to_owned(),
            why: PASSED.to_owned(),
            at: Some(time("2026-11-28T02:24:48.808105Z")),
            evidence: BTreeMap::new(),
        },
        metrics: numbers(&[
            ("accuracy", 0.536_764_705_882_352_9),
            ("auc", 0.431_180_691_454_664_03),
            ("best_epoch", 1.0),
            ("brier", 0.265_934_903_421_146_4),
            ("log_loss", 0.726_996_845_398_962_8),
            ("train_loss", 0.675_248_084_115_047_1),
        ]),
        aliases: vec!["champion".to_owned()],
        created_at: time("2026-11-28T02:24:48.752890Z"),
        deleted_at: None,
        revision: 2,
    }
}

async fn aliases_and_their_history_read_back(restored: Restored) {
    let (late, alias) = (model("late"), name("champion"));
    let now = restored.registry.alias(&late, &alias).await.expect("recorded");
    let expected = Alias {
        model: late.clone(),
        alias: name("champion"),
        version: 3,
        bundle: digest(CHAMPION),
        revision: 6,
        by: "workflow 01a21ff8-2ffe-713c-a6b2-27404d673c0a".to_owned(),
        why: PASSED.to_owned(),
        moved_at: time("2026-11-28T02:24:49.354943Z"),
        deleted: false,
    };
    assert_eq!(now, expected);
    let history = restored.registry.alias_history(&late, &alias, PageRequest::default()).await.expect("recorded").items;
    let moves: Vec<(u64, u32, &str)> =
        history.iter().map(|moved| (moved.revision, moved.version, moved.why.as_str())).collect();
    let expected = [
        (6, 3, PASSED),
        (5, 1, "rolled back by operator: back"),
        (4, 2, "second version"),
        (3, 1, "back to the first"),
        (2, 2, "better on validation"),
        (1, 1, "first model"),
    ];
    assert_eq!(moves, expected);
    assert_eq!(history[4].by, "approver");

    let challenger: AliasName = name("challenger");
    let history = restored.registry.alias_history(&late, &challenger, PageRequest::default()).await.expect("recorded");
    let versions: Vec<u32> = history.items.iter().map(|moved| moved.version).collect();
    assert_eq!(versions, [6, 5, 4, 3, 2]);
    let at = async |text| restored.registry.alias_at(&late, &alias, time(text)).await.expect("recorded");
    assert_eq!(at("2026-11-28T02:24:46.757210Z").await.map(|moved| moved.revision), Some(3));
    assert_eq!(at("2026-11-28T02:24:46.757211Z").await.map(|moved| moved.revision), Some(4));
    assert_eq!(at("2026-11-28T02:24:45Z").await, None);
}

async fn lineage_reads_back(restored: Restored) {
    let lineage = restored.registry.lineage(digest(CHAMPION)).await.expect("recorded");
    assert_eq!(lineage.versions, [champion()]);
    assert_eq!(lineage.run.map(|run| (run.id, run.seed)), champion().run.map(|run| (run, 12)));
    let datasets: Vec<(String, Digest)> =
        lineage.datasets.iter().map(|dataset| (dataset.reference(), dataset.content)).collect();
    // The second is a parent of the first; the other parent is an export.
    let expected = [("flights/3", FLIGHTS_3), ("flights/1", FLIGHTS_1)];
    assert_eq!(datasets, expected.map(|(reference, content)| (reference.to_owned(), digest(content))));
}
