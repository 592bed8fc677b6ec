//! The raw encoding of tensor elements in the Open Inference Protocol: little-endian and row-major without padding. A BYTES element
//! follows its length in four bytes.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Encodes elements of `N` bytes each, e.g. with `f64::to_le_bytes`.
pub fn encode<const N: usize, T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

/// Decodes elements of `N` bytes each, e.g. with `f64::from_le_bytes`; `None` if `raw` ends within an element.
pub fn decode<const N: usize, T>(raw: &[u8], value: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (chunks, rest) = raw.as_chunks::<N>();
    rest.is_empty().then(|| chunks.iter().map(|&chunk| value(chunk)).collect())
}

/// Encodes BYTES elements.
pub fn encode_texts<T: AsRef<str>>(texts: &[T]) -> Bytes {
    let mut raw = BytesMut::with_capacity(texts.iter().map(|text| 4 + text.as_ref().len()).sum());
    for text in texts.iter().map(AsRef::as_ref) {
        // A text of 4 GiB does not fit into any message.
        raw.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
        raw.put_slice(text.as_bytes());
    }
    raw.freeze()
}

/// Splits the first BYTES element off; `None` if `raw` ends within it.
pub fn split_text(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = raw.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_decode_to_the_values_that_were_encoded() {
        let raw = encode(&[0.5f32, -2.0], f32::to_le_bytes);
        assert_eq!(raw[..], [0, 0, 0, 0x3f, 0, 0, 0, 0xc0]);
        assert_eq!(decode(&raw, f32::from_le_bytes), Some(vec![0.5, -2.0]));
        assert_eq!(decode(&raw[..7], f32::from_le_bytes), None);

        let raw = encode_texts(&["", "Zoë"]);
        assert_eq!(raw[..], *b"\0\0\0\0\x04\0\0\0Zo\xc3\xab");
        let (first, rest) = split_text(&raw).expect("an element");
        assert_eq!((first, split_text(rest)), (&b""[..], Some(("Zoë".as_bytes(), &b""[..]))));
        assert_eq!(split_text(&raw[4..11]), None, "shorter than announced");
        assert_eq!(split_text(&[1, 0, 0]), None);
    }
}
