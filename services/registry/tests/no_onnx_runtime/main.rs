//! Where ONNX Runtime is not installed, an import says what to install, and everything else works. One test, because the library is that of
//! the process.

#[path = "../registry/sandbox.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod sandbox;

use rekindle_bundle::onnx::library;
use rekindle_proto::registry::ImportModelVersionRequest;
use rekindle_testkit::onnx_file;
use tonic::Code;

use self::sandbox::{Sandbox, key, reason};

mod onnx {
    /// The process of a check.
    #[test]
    #[ignore = "started by the registry of the other test"]
    fn check_model() {
        let folder = std::env::args().next_back().expect("a folder");
        rekindle_registry::check_model(std::path::Path::new(&folder)).expect("an outcome");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_says_what_to_install() {
    assert!(library::use_library("/nowhere/libonnxruntime.so"));
    let sandbox = Sandbox::on_sqlite().await;
    let request = ImportModelVersionRequest {
        idempotency_key: key(),
        model: "imported".into(),
        file_digest: sandbox.upload(&onnx_file("sklearn_linear.onnx")).await,
        target: "late".into(),
        ..Default::default()
    };
    let refused = sandbox.models.clone().import_model_version(request).await.expect_err("no library");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(reason(&refused, "").0, "ONNX_RUNTIME_MISSING");
    assert!(refused.message().contains("pip install onnxruntime"), "{}", refused.message());
    assert_eq!(sandbox.version("own", 1).await.version, 1);
}
