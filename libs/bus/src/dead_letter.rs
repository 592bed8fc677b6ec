//! The size of dead letters: whatever a message contains, its dead letter is accepted by the server.

use async_nats::HeaderMap;
use bytes::Bytes;
use rekindle_domain::Digest;

/// Bytes of the body of a dead letter, at most. Servers accept messages of 1 MiB unless configured otherwise.
pub const MAX_BODY: usize = 256 << 10;

/// Bytes of the headers of a message that its dead letter repeats, at most.
pub(crate) const MAX_HEADERS: usize = 16 << 10;

/// The body of a dead letter: of a larger one the first [`MAX_BODY`] bytes, with its digest and its size in the headers
/// `Rekindle-Dead-Body-Digest` and `Rekindle-Dead-Body-Bytes`.
pub fn bounded(body: Bytes, headers: &mut HeaderMap) -> Bytes {
    if body.len() <= MAX_BODY {
        return body;
    }
    headers.insert("Rekindle-Dead-Body-Digest", Digest::of(&body).to_string().as_str());
    headers.insert("Rekindle-Dead-Body-Bytes", body.len().to_string().as_str());
    body.slice(..MAX_BODY)
}

/// The bytes of headers.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    let of_one = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
        let name: &str = name.as_ref();
        values.iter().map(|value| name.len() + value.as_str().len() + 4).sum::<usize>()
    };
    headers.iter().map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_is_cut_and_described() {
        let mut headers = HeaderMap::new();
        let small = Bytes::from(vec![7; MAX_BODY]);
        assert_eq!(bounded(small.clone(), &mut headers), small);
        assert!(headers.is_empty());
        let large = Bytes::from(vec![7; MAX_BODY + 1]);
        assert_eq!(bounded(large.clone(), &mut headers), small);
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("Rekindle-Dead-Body-Bytes"), Some((MAX_BODY + 1).to_string()));
        assert_eq!(header("Rekindle-Dead-Body-Digest"), Some(Digest::of(&large).to_string()));
        assert!(size(&headers) > 100);
    }
}
