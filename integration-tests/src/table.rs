//! Synthetic rows for scenarios: visits to a shop, whose inputs shift and whose relation between inputs and label reverses at a known hour.
//! Every value is a function of the number of the row, so each run has the same rows.

use std::fmt::Write as _;

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// 2024-01-01T00:00:00Z.
pub const EPOCH_MS: i64 = 1_704_067_200_000;
/// Rows of each hour.
pub const ROWS_PER_HOUR: u64 = 60;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// Around 20; around 32 after the shift.
    pub temperature: f64,
    /// Does not shift; sometimes missing.
    pub basket: Option<f64>,
    /// Does not shift.
    pub region: &'static str,
    /// The label: "1" or "0".
    pub bought: &'static str,
}

/// A pseudo-random number in [0, 1) from its arguments (the finaliser of splitmix64).
fn unit(row: u64, stream: u64) -> f64 {
    let mut z = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

/// Rows of the hours `hours`, shifted from hour `shift` on.
pub fn rows(hours: std::ops::Range<u64>, shift: u64) -> Vec<Row> {
    (hours.start * ROWS_PER_HOUR..hours.end * ROWS_PER_HOUR)
        .map(|row| {
            let hour = row / ROWS_PER_HOUR;
            let shifted = hour >= shift;
            let noise = (0..6).map(|stream| unit(row, stream)).sum::<f64>() - 3.0;
            let temperature = 20.0 + 4.0 * noise + if shifted { 12.0 } else { 0.0 };
            let region = ["north", "south", "east", "west"][(unit(row, 10) * 4.0) as usize];
            let basket = (unit(row, 11) > 0.05).then(|| 10.0 + 30.0 * unit(row, 12));
            let direction = if shifted { -0.35 } else { 0.35 };
            let score = direction * (temperature - if shifted { 32.0 } else { 20.0 })
                + if region == "north" { 0.8 } else { -0.2 }
                + basket.map_or(0.0, |basket| (basket - 25.0) * 0.05);
            let probability = 1.0 / (1.0 + (-score).exp());
            let time_ms = EPOCH_MS + i64::try_from(row).expect("few rows") * HOUR_MS / ROWS_PER_HOUR.cast_signed();
            let bought = if unit(row, 13) < probability { "1" } else { "0" };
            Row { time_ms, temperature, basket, region, bought }
        })
        .collect()
}

/// The rows as a CSV file with the columns time, temperature, basket, region, bought.
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from("time,temperature,basket,region,bought\n");
    for row in rows {
        let time = row.time_ms.div_euclid(1000);
        let basket = row.basket.map(|basket| basket.to_string()).unwrap_or_default();
        writeln!(text, "{},{},{basket},{},{}", timestamp(time), row.temperature, row.region, row.bought)
            .expect("a String accepts everything");
    }
    text
}

fn timestamp(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).expect("in range").format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
