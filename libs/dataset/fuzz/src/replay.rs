//! Runs the checks of a fuzz target on its seeds and on damaged copies of them, in a plain test.

#[path = "mutate.rs"]
mod mutate;

use std::{collections::BTreeMap, fs, path::Path};

/// Checks every seed in a folder of the crate, and `damaged` damaged copies of each. A panic names the seed and the damage.
pub(crate) fn replay(folder: &str, damaged: u64, check: fn(&[u8])) {
    let seeds = seeds(folder);
    assert!(seeds.len() > 2, "no seeds in {folder}");
    let others: Vec<&Vec<u8>> = seeds.values().collect();
    for (index, (name, seed)) in seeds.iter().enumerate() {
        guarded(name, "undamaged", seed, check);
        for number in 0..damaged {
            let other = others[(index + number as usize) % others.len()];
            guarded(name, &format!("damage {number}"), &mutate::mutated(seed, other, number), check);
        }
    }
}

fn seeds(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let entries = entries.map(|entry| entry.expect("a readable folder"));
    entries.map(|entry| (entry.file_name().display().to_string(), fs::read(entry.path()).expect("a file"))).collect()
}

fn guarded(name: &str, damage: &str, bytes: &[u8], check: fn(&[u8])) {
    if std::panic::catch_unwind(|| check(bytes)).is_err() {
        panic!("seed {name}, {damage}: {:?}", String::from_utf8_lossy(bytes));
    }
}
