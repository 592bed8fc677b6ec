//! What the fuzz target `profile` starts from, without a fuzzer.

#[path = "../../../fuzz/src/profile.rs"]
mod profile;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn seeds_and_damaged_seeds_of_profiles() {
    replay::replay("profile", 2000, profile::check);
}
