//! Numbers, shares, probabilities and times as text.

/// A number with four significant digits, or all digits of its integer part; very large and very small numbers in scientific notation.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        _ if !value.is_finite() => return if value > 0.0 { "∞" } else { "−∞" }.to_owned(),
        0.0 => "0".to_owned(),
        _ if !(1e-4..1e9).contains(&magnitude) => power_of_ten(magnitude, 3),
        _ => plain(magnitude),
    };
    if value < 0.0 && text != "0" { format!("−{text}") } else { text }
}

fn plain(magnitude: f64) -> String {
    let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 8) as usize;
    trimmed(&format!("{magnitude:.decimals$}"))
}

/// Without trailing zeros, and with thousands separators.
fn trimmed(text: &str) -> String {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let rest = rest.trim_end_matches('0');
    let whole = grouped(whole);
    if rest.is_empty() { whole } else { format!("{whole}.{rest}") }
}

/// A number on an axis, with enough digits to differ from another one at distance `step`. A step of 0 means a single value.
pub(crate) fn on_axis(value: f64, step: f64) -> String {
    let decimals = match step {
        _ if value.abs() >= 1e15 => return number(value),
        0.0 if value.fract() == 0.0 => 0,
        // Others may be very close to a single value: all its digits, unless they are noise.
        0.0 if (1e-4..1e9).contains(&value.abs()) => (8 - value.abs().log10().floor() as i32).clamp(0, 12) as usize,
        _ if !(1e-8..1e15).contains(&step) => return number(value),
        // One more digit, since steps such as 2.5 need it.
        step => (1.0 - step.log10().floor()).max(0.0) as usize,
    };
    let text = trimmed(&format!("{:.decimals$}", value.abs()));
    if value < 0.0 && text != "0" { format!("−{text}") } else { text }
}

/// A number of rows.
pub(crate) fn rows(rows: u64) -> String {
    grouped(&rows.to_string())
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", rows(count), if count == 1 { "" } else { "s" })
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent. Only 0 is shown as 0 %, and only 1 as 100 %.
pub(crate) fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        percent if percent < 0.1 => "<0.1 %".to_owned(),
        percent if percent > 99.9 && percent < 100.0 => ">99.9 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// A probability with few digits; never shown as 0.
pub(crate) fn chance(p: f64) -> String {
    match p {
        0.0 => "below 10⁻³⁰⁰".to_owned(),
        _ if p < 1e-3 => power_of_ten(p, 1),
        _ => plain(p),
    }
}

fn power_of_ten(magnitude: f64, decimals: usize) -> String {
    let text = format!("{magnitude:.decimals$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits} × 10{}", exponent.chars().map(raised).collect::<String>())
}

fn raised(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or('⁰'),
    }
}

/// A text cut to `room` columns, of which wide characters take two. An ellipsis marks a cut.
pub(crate) fn cut(text: &str, room: usize) -> String {
    let columns = |letter: char| if (letter as u32) < 0x1100 { 1 } else { 2 };
    if text.chars().map(columns).sum::<usize>() <= room {
        return text.to_owned();
    }
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += columns(*letter);
        taken < room
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{kept}…")
}

/// A time to the second, in UTC, given in milliseconds since 1970; empty where it has no date.
pub(crate) fn moment(millis: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(millis);
    time.map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.316_227, "0.3162"),
            (-12.5, "−12.5"),
            (1_234_567.8, "1,234,568"),
            (1e300, "1 × 10³⁰⁰"),
            (-2.5e-9, "−2.5 × 10⁻⁹"),
            (f64::INFINITY, "∞"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn numbers_on_an_axis_differ() {
        let cases = [
            (1005.2, 0.2, "1,005.2"),
            (-7.5, 2.5, "−7.5"),
            (0.1 + 0.2, 0.1, "0.3"),
            (1.7e9, 5e5, "1,700,000,000"),
            (7.0, 0.0, "7"),
            (0.123_456, 0.0, "0.123456"),
            (4.000_01, 0.0, "4.00001"),
            (3e20, 1e18, "3 × 10²⁰"),
            (-0.001, 1.0, "0"),
        ];
        for (value, step, text) in cases {
            assert_eq!(on_axis(value, step), text);
        }
    }

    #[test]
    fn shares_are_rounded_to_neither_0_nor_1() {
        let cases = [(0.0, "0 %"), (1e-6, "<0.1 %"), (0.1234, "12.3 %"), (0.9999, ">99.9 %"), (1.0, "100 %")];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
        assert_eq!(
            (chance(3.24e-7), chance(0.0), chance(0.04)),
            ("3.2 × 10⁻⁷".into(), "below 10⁻³⁰⁰".into(), "0.04".into())
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("éclair", 6), "éclair");
        assert_eq!(cut("éclairs", 6), "éclai…");
        assert_eq!(cut("漢字漢字", 6), "漢字…");
    }
}
