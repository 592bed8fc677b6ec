//! Small files that claim much are refused, in little memory. Each is read in a process of its own with a limit on its address space: what
//! allocates as a file claims is aborted there.

mod files;
mod thrift;

use std::{
    env, fs,
    fs::File,
    process::{Command, Output},
};

use rekindle_dataset::{IngestOptions, Limits, Section, ingest};
use rekindle_domain::dataset::FileFormat;

/// The address space of the process in kilobytes.
const ADDRESS_SPACE: u64 = 1 << 20;
/// The name of the file that a process is to read.
const FILE: &str = "HOSTILE_FILE";

/// Reads the file in the way a registration does, and prints why it is refused.
fn read(path: &str) {
    let section = Section::whole(File::open(path).expect("the file")).expect("its size");
    let options = IngestOptions {
        reading: Default::default(),
        columns: Default::default(),
        schema: None,
        kinds: [].into(),
        time_column: None,
        from: None,
        until: None,
        limits: Limits { rows: usize::MAX, ..Limits::default() },
        scratch: env::temp_dir(),
    };
    let refusal = ingest(&[(section, FileFormat::Parquet)], &options).map(|made| made.rows).expect_err("refused");
    println!("refused: {:?}", refusal.error);
}

fn read_in_a_process(path: &str) -> Output {
    let exe = env::current_exe().expect("this test");
    let script =
        format!("ulimit -v {ADDRESS_SPACE} && exec \"$0\" --exact small_files_that_claim_much_are_refused --nocapture");
    Command::new("sh").args(["-c", &script]).arg(exe).env(FILE, path).output().expect("it runs")
}

#[test]
fn small_files_that_claim_much_are_refused() {
    if let Ok(path) = env::var(FILE) {
        return read(&path);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut failed = Vec::new();
    for (name, bytes) in files::all() {
        let path = folder.path().join(name.replace(' ', "-"));
        fs::write(&path, &bytes).expect("written");
        let read = read_in_a_process(path.to_str().expect("UTF-8"));
        let output = String::from_utf8_lossy(&read.stdout);
        let refusal = output.lines().find_map(|line| line.strip_prefix("refused: "));
        println!("{name}, {} bytes: {}: {refusal:?}", bytes.len(), read.status);
        if !read.status.success() || refusal.is_none() {
            failed.push(format!("{name}: {}\n{}", read.status, String::from_utf8_lossy(&read.stderr)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
