//! Stored profiles as an attacker, or a worn disk, would have them.

#![no_main]

#[path = "../src/profile.rs"]
mod profile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profile::check(bytes));
