//! Malicious and damaged stored profiles.

#![no_main]

#[path = "../src/profile.rs"]
mod profile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profile::check(bytes));
