//! Names and values from the data as text.

/// Replaces control characters by escapes, so that text from a file can neither break a line nor control a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Printable names, comma-separated, at most `limit` of them; the number of the others follows. `none` without names.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a str>, limit: usize) -> String {
    let names: Vec<String> = names.into_iter().map(printable).collect();
    match names.len().checked_sub(limit) {
        _ if names.is_empty() => "none".to_owned(),
        Some(more @ 1..) => format!("{} and {more} more", names[..limit].join(", ")),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\n\"é 漢"), "a\\u{1b}[31m\\n\"é 漢");
    }

    #[test]
    fn long_lists_are_shortened() {
        assert_eq!(list_names([], 2), "none");
        assert_eq!(list_names(["a", "b"], 2), "a, b");
        assert_eq!(list_names(["a", "b\t", "c", "d"], 2), "a, b\\t and 2 more");
    }
}
