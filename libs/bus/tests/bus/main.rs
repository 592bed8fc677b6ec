//! The bus against a real nats-server: delivery while the server crashes, handlers fail and messages are repeated.

mod buckets;
mod consumers;
mod deletions;
mod disk;
mod history;
mod login;
mod read;
mod relay;
mod streams;
mod tracing;
mod world;
