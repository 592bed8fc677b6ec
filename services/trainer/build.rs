//! Tells the crate which revision it is built from, so that every run and every bundle can name it.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=REKINDLE_REVISION");
    let given = std::env::var("REKINDLE_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(head).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=REKINDLE_REVISION={revision}");
}

/// The commit that is checked out; a source tree without git has none.
fn head() -> Option<String> {
    // HEAD names the branch, and its log changes with every commit on whichever branch.
    for file in ["HEAD", "logs/HEAD"].map(|name| Path::new("../../.git").join(name)) {
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let revision = text.trim();
    let is_commit = output.status.success() && revision.len() >= 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    is_commit.then(|| revision.to_owned())
}
