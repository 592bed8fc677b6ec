//! Synthetic rows in which the relation between features and label reverses at a known hour.

use std::{fmt::Write as _, ops::Range};

/// Rows of each hour.
pub(crate) const PER_HOUR: u64 = 60;

/// A number in [0, 1) that depends on its arguments only (the finaliser of splitmix64).
fn unit(row: u64, stream: u64) -> f64 {
    let mut z = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

/// The time of a row, from 2024-01-01T00:00:00Z on.
fn time(row: u64) -> String {
    let seconds = 1_704_067_200 + row * 3600 / PER_HOUR;
    let time = chrono::DateTime::from_timestamp(seconds.cast_signed(), 0).expect("in range");
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// CSV with the columns id, time, fare, company and tip. From the hour `change` on, fares are higher and the relation is reversed.
pub(crate) fn csv(hours: Range<u64>, change: u64) -> String {
    let mut text = String::from("id,time,fare,company,tip\n");
    for row in hours.start * PER_HOUR..hours.end * PER_HOUR {
        let is_changed = row / PER_HOUR >= change;
        let (mean, slope) = if is_changed { (32.0, -0.35) } else { (20.0, 0.35) };
        let noise = (0..6).map(|stream| unit(row, stream)).sum::<f64>() - 3.0;
        let fare = mean + 4.0 * noise;
        let company = ["north", "south", "east", "west"][(unit(row, 10) * 4.0) as usize];
        let score = slope * (fare - mean) + if company == "north" { 0.8 } else { -0.2 };
        let tip = u8::from(unit(row, 11) < 1.0 / (1.0 + (-score).exp()));
        writeln!(text, "{row},{},{fare:.3},{company},{tip}", time(row)).expect("a String accepts all");
    }
    text
}
