const SIGN: u64 = 1 << 63;

/// A key whose order as an integer is the order of the floats, so that neighbouring floats have neighbouring keys
/// and a key's leading bits stand for an interval. Both zeros have one key.
#[inline]
pub fn key_of(value: f64) -> u64 {
    // Adding zero turns -0.0 into 0.0 and leaves every other number as it is.
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The float of a key.
pub fn float_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}
