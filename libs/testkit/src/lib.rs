//! What tests need around the thing tested: waiting for facts, and real servers made small — a nats-server, a PostgreSQL, an S3
//! store — each on a free loopback port, in a temporary folder, gone with the value that stands for it.
//!
//! Only tests may depend on this crate. What is missing on the machine is a panic that says how to install it
//! (`scripts/install-tools.sh`), never a test that is skipped.

pub mod nats;
pub mod postgres;
pub mod s3;

mod process;
mod wait;

pub use nats::NatsServer;
pub use postgres::Postgres;
pub use process::free_port;
pub use s3::S3;
pub use wait::eventually;
