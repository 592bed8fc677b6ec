//! `ModelInferRequest` messages, damaged and malicious.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rekindle_inference::fuzzing::grpc(bytes));
