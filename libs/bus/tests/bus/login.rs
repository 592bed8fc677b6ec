//! A broker that asks for a user and a password.

use std::time::Duration;

use rekindle_bus::{Bus, Config};
use rekindle_testkit::NatsServer;

const PASSWORD: &str = "s/e#c r@t%";
const ENCODED: &str = "s%2Fe%23c%20r%40t%25";

fn config(server: &NatsServer, login: &str) -> Config {
    let url = format!("nats://{login}127.0.0.1:{}", server.port());
    Config { connect_timeout: Duration::from_secs(2), ..Config::at(url) }
}

#[tokio::test]
async fn the_url_has_the_user_and_the_password() {
    let server = NatsServer::start_with_login("rekindle", PASSWORD).await;
    let bus = Bus::connect(&config(&server, &format!("rekindle:{ENCODED}@"))).await.expect("the broker lets it in");
    assert!(bus.is_connected());
    let two = format!("nats://127.0.0.1:1,nats://rekindle:{ENCODED}@127.0.0.1:{}", server.port());
    let either = Bus::connect(&Config { connect_timeout: Duration::from_secs(10), ..Config::at(two) }).await;
    assert!(either.expect("the second server").is_connected());
    for login in ["", "rekindle:wrong@", "other:s%2Fe%23c%20r%40t%25@", "rekindle@"] {
        let refused = Bus::connect(&config(&server, login)).await.expect_err(login);
        let (shown, debugged) = (refused.to_string(), format!("{refused:?}"));
        assert!(!shown.contains("s/e#c") && !debugged.contains("s/e#c") && !debugged.contains("s%2Fe"), "{debugged}");
    }
}
