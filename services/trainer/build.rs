//! Sets the revision that the crate is built from, so that every run and every bundle can name it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=REKINDLE_REVISION");
    let given = std::env::var("REKINDLE_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(head).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=REKINDLE_REVISION={revision}");
}

/// The commit that is checked out; a source tree without git has none.
fn head() -> Option<String> {
    // HEAD names the branch, and its log changes with every commit on whichever branch. Before the first commit there is no log: cargo
    // then asks again with every build.
    for name in ["HEAD", "logs/HEAD"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", name])?);
    }
    let revision = git(&["rev-parse", "HEAD"])?;
    let is_commit = revision.len() >= 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    is_commit.then_some(revision)
}

/// The output of git; `None` without git or outside of a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
