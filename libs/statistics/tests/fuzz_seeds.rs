//! The seeds of the fuzz target `profile`, run without a fuzzer.

#[path = "../../dataset/fuzz/src/profile.rs"]
mod profile;
#[path = "../../dataset/fuzz/src/replay.rs"]
mod replay;

#[test]
fn seeds_and_damaged_seeds_of_profiles() {
    replay::replay("../dataset/fuzz/seeds/profile", 5000, profile::check);
}
