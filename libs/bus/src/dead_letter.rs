//! The size of dead letters: whatever a message contains, its dead letter is accepted by the server.

use async_nats::HeaderMap;
use bytes::Bytes;
use rekindle_domain::Digest;

/// Bytes of the body of a dead letter, at most. Servers accept messages of 1 MiB unless configured otherwise.
pub const MAX_BODY: usize = 256 << 10;

/// Bytes of the headers of a message that its dead letter repeats, at most.
const MAX_HEADERS: usize = 16 << 10;

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

/// The headers of a message that its dead letter repeats; none if they are too large, since they count towards the size that the server
/// accepts. Those for the server are left out: it would check them against the stream of dead letters, and reject the dead letter.
pub(crate) fn repeated(headers: &HeaderMap) -> HeaderMap {
    let mut repeated = HeaderMap::new();
    if size(headers) > MAX_HEADERS {
        return repeated;
    }
    for (name, values) in headers.iter() {
        let is_for_the_server = AsRef::<str>::as_ref(name).to_ascii_lowercase().starts_with("nats-");
        for value in values.iter().filter(|_| !is_for_the_server) {
            repeated.append(name.clone(), value.clone());
        }
    }
    repeated
}

/// The bytes of headers.
fn size(headers: &HeaderMap) -> usize {
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

    #[test]
    fn headers_for_the_server_are_not_repeated() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("Nats-Expected-Stream", "A"), ("nats-rollup", "all"), ("ce-id", "1"), ("ce-type", "x")] {
            headers.insert(name, value);
        }
        let kept = repeated(&headers);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.get("ce-id").map(|value| value.as_str()), Some("1"));
        headers.insert("long", "x".repeat(MAX_HEADERS).as_str());
        assert!(repeated(&headers).is_empty());
    }
}
