//! The registry as its callers see it: over gRPC, with a real nats-server, on SQLite and on PostgreSQL, on the file system and on S3.

mod aliases;
mod bad_input;
mod datasets;
mod garbage;
mod mlflow;
mod models;
mod onnx;
mod recorded;
mod runs;
mod sandbox;

/// The same story on both databases.
macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::sandbox::Sandbox::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::sandbox::Sandbox::on_postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// The same story with blobs on S3.
macro_rules! on_s3 {
    ($($story:ident),* $(,)?) => {
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::sandbox::Sandbox::on_s3().await).await;
            })*
        }
    };
}
pub(crate) use on_s3;
