//! Malicious and truncated CSV and Parquet files.

#![no_main]

#[path = "../src/files.rs"]
mod files;

use std::{cell::RefCell, panic};

thread_local! {
    /// The message and the location of the last panic.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

// The scan turns the panics of the Parquet decoder into errors, so a panic must not end the process, as it does by default, before
// that has had its turn.
libfuzzer_sys::fuzz_target!(
    init: panic::set_hook(Box::new(|said| SAID.set(said.to_string()))),
    |bytes: &[u8]| {
        if panic::catch_unwind(|| files::check(bytes)).is_err() {
            eprintln!("{}", SAID.take());
            std::process::abort();
        }
    }
);
