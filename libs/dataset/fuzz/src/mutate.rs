//! Reproducible damage to bytes.

/// Numbers at the limits of types and counters.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1e308",
    "-1e308",
    "5e-324",
    "1e400",
    "255",
    "4294967296",
    "549755813888",
    "18446744073709551615",
    "null",
    "\"\"",
];

/// The seed with one to four mutations, which may insert pieces of `other`.
pub(crate) fn mutated(seed: &[u8], other: &[u8], mut state: u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + draw(&mut state, 4) {
        let at = draw(&mut state, bytes.len() + 1);
        let length = 1 + draw(&mut state, 16);
        let end = (at + length).min(bytes.len());
        match draw(&mut state, 8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << draw(&mut state, 8),
            2 if at < bytes.len() => bytes[at] = draw(&mut state, 256) as u8,
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let from = draw(&mut state, other.len() + 1);
                let piece = other[from..(from + length).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            _ => replace_number(&mut bytes, at, NUMBERS[draw(&mut state, NUMBERS.len())]),
        }
    }
    bytes
}

/// Replaces the next number in decimal digits.
fn replace_number(bytes: &mut Vec<u8>, at: usize, number: &str) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[at..].iter().position(is_digit).map(|offset| at + offset) else { return };
    let length = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    bytes.splice(start..start + length, number.bytes());
}

/// A number below `limit` (splitmix64: Steele, Lea and Flood 2014).
fn draw(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
}
