//! CSV and Parquet files as an attacker, or a torn download, would have them.

#![no_main]

#[path = "../src/files.rs"]
mod files;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| files::check(bytes));
