//! The seeds of the fuzz target `files`, without a fuzzer.

#[path = "../fuzz/src/files.rs"]
mod files;
#[path = "../fuzz/src/replay.rs"]
mod replay;

#[test]
fn seeds_and_damaged_seeds_of_files() {
    replay::replay("fuzz/seeds/files", 2000, files::check);
}
