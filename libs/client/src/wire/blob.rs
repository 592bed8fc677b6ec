//! Collections and checks of blobs.

use rekindle_domain::{
    blob::{Garbage, Scrubbed},
    validation::Violations,
};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::field::{each, parse};

/// The result of a collection as a message.
pub fn garbage_to_wire(found: &Garbage) -> wire::CollectGarbageResponse {
    let Garbage { blobs, bytes, referenced, recent, deleted, deleted_bytes } = *found;
    wire::CollectGarbageResponse { blobs, bytes, referenced, recent, deleted, deleted_bytes }
}

/// The result of a collection in proto3 JSON.
pub fn garbage_to_json(found: &Garbage) -> Value {
    json::to_value(&garbage_to_wire(found))
}

/// The result of a collection.
pub fn garbage_from_wire(given: wire::CollectGarbageResponse) -> Garbage {
    let wire::CollectGarbageResponse { blobs, bytes, referenced, recent, deleted, deleted_bytes } = given;
    Garbage { blobs, bytes, referenced, recent, deleted, deleted_bytes }
}

/// The result of a check as a message.
pub fn scrubbed_to_wire(found: &Scrubbed, next_page_token: String) -> wire::ScrubResponse {
    let corrupt = found.corrupt.iter().map(ToString::to_string).collect();
    wire::ScrubResponse { blobs: found.blobs, bytes: found.bytes, corrupt, next_page_token }
}

/// The result of a check in proto3 JSON.
pub fn scrubbed_to_json(found: &Scrubbed) -> Value {
    json::to_value(&scrubbed_to_wire(found, String::new()))
}

/// The result of a check.
pub fn scrubbed_from_wire(given: wire::ScrubResponse) -> Result<Scrubbed, Violations> {
    let corrupt = each("corrupt", given.corrupt, |digest| parse("digest", &digest))?;
    Ok(Scrubbed { blobs: given.blobs, bytes: given.bytes, corrupt })
}

#[cfg(test)]
mod tests {
    use rekindle_domain::Digest;

    use super::*;

    #[test]
    fn results_survive() {
        let found = Garbage { blobs: 6, bytes: 60, referenced: 3, recent: 1, deleted: 2, deleted_bytes: 20 };
        assert_eq!(garbage_to_json(&found)["deleted_bytes"], "20");
        assert_eq!(garbage_from_wire(garbage_to_wire(&found)), found);
        let found = Scrubbed { blobs: 6, bytes: 60, corrupt: vec![Digest::of(b"blob")] };
        assert_eq!(scrubbed_to_json(&found)["corrupt"][0], Digest::of(b"blob").to_string());
        assert_eq!(scrubbed_from_wire(scrubbed_to_wire(&found, "next".into())), Ok(found));
    }
}
