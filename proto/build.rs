//! Compiles the .proto files without protoc: protox parses them, tonic-prost-build writes the Rust, and
//! the descriptors are kept for reflection and for the JSON mapping.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 9] = [
    "inference/inference.proto",
    "inference/model_config.proto",
    "rekindle/inference/v1/inference.proto",
    "rekindle/audit/v1/audit.proto",
    "rekindle/registry/v1/registry.proto",
    "rekindle/trainer/v1/trainer.proto",
    "rekindle/monitor/v1/monitor.proto",
    "rekindle/orchestrator/v1/orchestrator.proto",
    "rekindle/events/v1/events.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut names = prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        // Tensor bytes are sliced out of the received frame instead of copied.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .bytes(".rekindle.registry.v1.UploadRequest.chunk")
        .bytes(".rekindle.registry.v1.DownloadResponse.chunk")
        // Maps in the order of their keys, so that equal messages have equal encodings.
        .btree_map(".")
        .compile_fds_with_config(descriptors, names)?;
    Ok(())
}
