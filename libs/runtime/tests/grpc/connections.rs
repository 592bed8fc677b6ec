//! Connections that nobody uses.

use std::time::Duration;

use rekindle_runtime::grpc::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{World, call};

/// What a client of HTTP/2 sends first: the preface and its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn opened(world: &World, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    stream.write_all(first).await.expect("writes");
    stream
}

/// Waits until the server closes the connection.
async fn closed(mut stream: TcpStream) {
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed() {
    let world = World::start(Config { receive_timeout: Duration::from_millis(50), ..Config::default() }).await;
    closed(opened(&world, b"").await).await;
    closed(opened(&world, &PREFACE[..10]).await).await;
    closed(opened(&world, PREFACE).await).await;
    closed(opened(&world, b"GET / HTTP/1.1\r\n\r\n").await).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_losing_a_call() {
    let world = World::start(Config { idle_timeout: Duration::from_nanos(1), ..Config::default() }).await;
    let channel = world.channel();
    for _ in 0..200 {
        let mut client = rekindle_proto::trainer::trainer_client::TrainerClient::new(channel.clone());
        client.cancel_job(crate::world::command("echo")).await.expect("a connection that closes refuses no call");
    }
}

#[tokio::test]
async fn connections_without_a_call_make_room_for_others() {
    let world = World::start(Config { max_connections: 4, ..Config::default() }).await;
    let mut idle = Vec::new();
    for first in [b"".as_slice(), PREFACE, &PREFACE[..10], PREFACE, b"", PREFACE] {
        idle.push(opened(&world, first).await);
    }
    call(&world, "echo").await.expect("a place becomes free");
}
