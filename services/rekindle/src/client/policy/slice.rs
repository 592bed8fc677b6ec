//! `--slice`.

use rekindle_domain::Slice;

/// A slice to watch, or the end of those before.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Watch(Slice),
    None,
}

/// A condition, a feature, or `none`.
pub(super) fn parse(text: &str) -> Result<Change, String> {
    if text == "none" { Ok(Change::None) } else { text.parse().map(Change::Watch) }
}

/// Adds slices to those that are watched, or removes all.
pub(super) fn apply(changes: &[Change], slices: &mut Vec<Slice>) {
    for change in changes {
        match change {
            Change::None => slices.clear(),
            Change::Watch(slice) if slices.contains(slice) => {}
            Change::Watch(slice) => slices.push(slice.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_added_once_and_removed_by_none() {
        let apply = |words: &[&str], slices: &mut Vec<Slice>| {
            let changes: Vec<Change> = words.iter().map(|word| parse(word).expect(word)).collect();
            super::apply(&changes, slices);
        };
        let mut slices = Vec::new();
        apply(&["carrier", "distance>1000", "distance > 1000"], &mut slices);
        assert_eq!(slices.iter().map(Slice::to_string).collect::<Vec<_>>(), ["carrier", "distance > 1000"]);
        apply(&["none", "origin = 'JFK'"], &mut slices);
        assert_eq!(slices.iter().map(Slice::to_string).collect::<Vec<_>>(), ["origin = 'JFK'"]);
        assert!(parse("distance >").is_err());
    }
}
