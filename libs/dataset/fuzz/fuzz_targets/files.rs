//! CSV and Parquet files as an attacker, or a torn download, would have them.

#![no_main]

#[path = "../src/files.rs"]
mod files;

use std::{cell::RefCell, panic};

thread_local! {
    /// What the last panic said, and where.
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
