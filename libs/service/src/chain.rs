//! An error with its sources in one line, for logs and records.

use std::error::Error;

/// The messages of an error and its sources, from the outermost on. A source that a message repeats is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layered {
        #[error("the upload failed")]
        Outer(#[source] Box<Layered>),
        #[error("disk full")]
        Inner,
    }

    #[test]
    fn sources_follow_in_order() {
        assert_eq!(chain(&Layered::Outer(Box::new(Layered::Inner))), "the upload failed: disk full");
        assert_eq!(chain(&Layered::Inner), "disk full");
    }
}
