//! Every client command, run as a program against a platform, with and without `--json`; and the commands of the README.

mod rows;
mod world;

mod alerts;
mod data;
mod errors;
mod load;
mod monitoring;
mod onnx;
mod readme;
mod serving;
mod workflows;

use world::World;

/// One platform and one story: each part uses what the parts before it have made.
#[tokio::test]
async fn every_client_command_runs_with_and_without_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = alerts::Receiver::start();
    let settings = format!("{}\n[orchestrator]\ndelivery_interval = \"1s\"\n", receiver.settings());
    std::fs::write(folder.path().join("rekindle.toml"), settings).expect("a file");
    let world = World::start(folder, &["up", "--config", "rekindle.toml"]).await;
    serving::the_platform_becomes_ready(&world);
    data::datasets(&world);
    data::files_as_people_write_them(&world);
    let runs = data::runs(&world);
    data::models(&world, &runs);
    data::rebuilds(&world);
    serving::policies(&world);
    serving::deployments(&world);
    serving::traffic(&world);
    let prediction = serving::predictions(&world);
    load::tests_under_load(&world).await;
    load::advice(&world);
    monitoring::replays(&world);
    monitoring::outcomes(&world, &prediction);
    monitoring::lineage(&world, &prediction).await;
    monitoring::reports(&world).await;
    monitoring::failures(&world).await;
    alerts::alerts(&world, &receiver).await;
    onnx::imports(&world);
    workflows::workflows(&world).await;
    monitoring::report(&world);
    monitoring::resets(&world);
    monitoring::events(&world);
    errors::exit_codes(&world);
    let untested = world.untested();
    assert!(untested.is_empty(), "no test runs {untested:?}");
}
