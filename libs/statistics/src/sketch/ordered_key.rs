const SIGN: u64 = 1 << 63;

/// An integer key with the order of the floats, so that neighbouring floats have neighbouring keys and the leading bits of a key denote an
/// interval. Both zeros have one key.
#[inline]
pub fn key_of(value: f64) -> u64 {
    // Adding zero turns -0.0 into 0.0 and does not change any other number.
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The float of a key.
pub fn float_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}
