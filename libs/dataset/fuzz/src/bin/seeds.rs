//! Writes the generated seeds into the folder `seeds` beside the manifest: Parquet files, and small profiles with the sketches that
//! otherwise only large columns have.

use std::{fs, path::Path};

use bytes::Bytes;
use rekindle_dataset::{read_csv, write_parquet};
use rekindle_statistics::{
    profile::{Column, ColumnProfile, Numeric, Profile, Timestamp},
    sketch::{Distinct, Frequent, PrefixCounts},
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for name in ["mixed", "rows"] {
        let text = fs::read(folder.join("files").join(name).with_extension("csv"))?;
        let table = read_csv(Bytes::from(text))?;
        fs::write(folder.join("files").join(name).with_extension("parquet"), write_parquet(&table)?)?;
    }
    let profiles = folder.join("profile");
    fs::write(profiles.join("kinds.json"), small().to_bytes())?;
    fs::write(profiles.join("coarse.json"), coarse().to_bytes())?;
    fs::write(profiles.join("none.json"), Profile::new(0, Vec::new()).to_bytes())?;
    // The sketch of distinct keys has three forms: a list, a set, and registers.
    for (name, texts) in [("list", 5), ("set", 40), ("registers", 600)] {
        fs::write(profiles.join(name).with_extension("json"), many(texts)?)?;
    }
    Ok(())
}

fn column(name: &str, profile: ColumnProfile) -> Column {
    Column { name: name.to_owned(), profile }
}

fn small() -> Profile {
    let ends = [f64::MAX, f64::MIN, 5e-324, -0.0, f64::NAN, f64::INFINITY];
    let numbers = (0..40).map(|i| (i % 9 > 0).then(|| *ends.get(i).unwrap_or(&(i as f64 * 0.5))));
    let long = "é".repeat(300);
    let texts = (0..40).map(|i| (i % 7 > 0).then(|| ["red", "green", "", "\"\\\n", &long][i % 5]));
    let mut time = Timestamp::new();
    (0..40).for_each(|i| time.add((i % 11 > 0).then_some(1_356_998_400_000 + i * 60_000)));
    let columns = vec![
        column("number", ColumnProfile::of_numbers(numbers)),
        column("text", ColumnProfile::of_texts(texts)),
        column("flag", ColumnProfile::of_flags((0..40).map(|i| (i % 5 > 0).then_some(i % 2 == 0)))),
        column("time", ColumnProfile::Timestamp(time)),
    ];
    Profile::new(40, columns)
}

/// Numbers with fewer buckets than distinct values.
fn coarse() -> Profile {
    let mut numeric = Numeric::with_buckets(16);
    (0..500_u32).for_each(|i| numeric.add(Some(f64::from(i * 7919 % 1009) - 300.5)));
    Profile::new(500, vec![column("number", ColumnProfile::Numeric(numeric))])
}

/// Texts in groups, as a column of thousands of distinct texts has them.
fn many(texts: u64) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (mut groups, mut distinct) = (PrefixCounts::new(16), Distinct::new());
    let (mut frequent, mut lengths) = (Frequent::new(), Numeric::new());
    for text in 0..texts {
        let key = text.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        groups.add(key, 2);
        distinct.add(key);
        frequent.add(&format!("text {}", text % 50), 2);
        lengths.add_all(&[(text % 5) as f64; 2]);
    }
    let many = json!({ "groups": groups, "distinct": distinct, "frequent": frequent, "lengths": lengths });
    let profile: Value = json!({ "kind": "categorical", "missing": 3, "many": many });
    let table =
        json!({ "format_version": 2, "rows": 2 * texts + 3, "columns": [{ "name": "text", "profile": profile }] });
    let bytes = serde_json::to_vec(&table)?;
    Profile::from_bytes(&bytes)?;
    Ok(bytes)
}
