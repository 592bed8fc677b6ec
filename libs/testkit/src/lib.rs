//! Test support: waiting for conditions, data of earlier releases, messages that no service wrote, and real servers (nats-server, PostgreSQL, an S3 store), each on a
//! free loopback port, in a temporary folder, stopped and removed when its value is dropped.
//!
//! Only tests may depend on this crate. A server that is not installed is a panic that names the install command
//! (`scripts/install-tools.sh`), never a skipped test. The browser and the clock are exceptions: what needs them
//! is skipped, and says so.

pub mod browser;
pub mod clock;
pub mod disk;
pub mod fixture;
pub mod nats;
pub mod onnx_runtime;
pub mod poison;
pub mod postgres;
pub mod s3;
pub mod shared_data;

mod process;
mod wait;

pub use browser::Browser;
pub use clock::Clock;
pub use disk::SmallDisk;
pub use fixture::Fixture;
pub use nats::NatsServer;
pub use onnx_runtime::{onnx_file, onnx_runtime};
pub use poison::Poison;
pub use postgres::Postgres;
pub use process::{has_unread_request, reserve_port};
pub use s3::S3;
pub use shared_data::{flights, shared_data};
pub use wait::eventually;
