//! Abbreviated ids.

use std::fmt::Display;

use rekindle_domain::IdPrefix;

use crate::RequestError;

/// Checks that `prefix` abbreviates one id. `found` holds the ids that begin so, at least two of them if there are more.
///
/// # Errors
/// None begins so: NOT_FOUND. Several do: the field `id` is not valid.
pub fn only<Id: Display>(resource: &'static str, prefix: &IdPrefix, found: &[Id]) -> Result<(), RequestError> {
    match found {
        [_] => Ok(()),
        [] if prefix.is_whole() => Err(RequestError::not_found(resource, prefix)),
        [] => Err(RequestError::not_found(resource, format!("with an id that begins with {prefix}"))),
        [one, other, ..] => {
            let problem = format!("is {prefix}: several ids begin so, e.g. {one} and {other}: give more digits");
            Err(RequestError::invalid("id", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_is_meant_or_the_error_says_what_to_give() {
        let prefix: IdPrefix = "018f6e".parse().expect("digits");
        let whole: IdPrefix = "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20".parse().expect("an id");
        let error = |prefix, found: &[&str]| only("run", prefix, found).expect_err("refused").to_string();
        assert_eq!(only("run", &prefix, &["018f6e1a"]), Ok(()));
        assert_eq!(error(&prefix, &[]), "run with an id that begins with 018f6e does not exist");
        assert_eq!(error(&whole, &[]), format!("run {whole} does not exist"));
        assert_eq!(
            error(&prefix, &["018f6e1a", "018f6e1b"]),
            "id: is 018f6e: several ids begin so, e.g. 018f6e1a and 018f6e1b: give more digits"
        );
    }
}
