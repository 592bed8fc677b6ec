//! `--column`.

use std::collections::BTreeMap;

use rekindle_domain::ColumnRule;

use crate::client::parse::number;

/// A change of the rule of one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    column: String,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Mute,
    Margin(f64),
    Default,
}

/// `COL=mute`, `COL=PSI` or `COL=default`; the name may contain "=".
pub(super) fn parse(text: &str) -> Result<Change, String> {
    let expected = "expected a column and its rule: COL=mute, COL=PSI or COL=default";
    let (column, rule) = text.rsplit_once('=').filter(|(column, _)| !column.is_empty()).ok_or(expected)?;
    let rule = match rule {
        "mute" => Rule::Mute,
        "default" => Rule::Default,
        margin => Rule::Margin(number(margin).map_err(|_| expected)?),
    };
    Ok(Change { column: column.to_owned(), rule })
}

impl Change {
    pub(super) fn apply(&self, rules: &mut BTreeMap<String, ColumnRule>, by: &str, why: &str) {
        let (by, why) = (by.to_owned(), why.to_owned());
        let rule = match self.rule {
            Rule::Mute => ColumnRule { muted: true, drift_margin: None, by, why },
            Rule::Margin(margin) => ColumnRule { muted: false, drift_margin: Some(margin), by, why },
            Rule::Default => {
                rules.remove(&self.column);
                return;
            }
        };
        rules.insert(self.column.clone(), rule);
    }
}

/// A rule in words.
pub(super) fn text(column: &str, rule: &ColumnRule) -> String {
    let what = match (rule.muted, rule.drift_margin) {
        (true, _) => "muted".to_owned(),
        (false, Some(margin)) => format!("margin psi {margin}"),
        (false, None) => "as the others".to_owned(),
    };
    let by = if rule.by.is_empty() { String::new() } else { format!(" by {}", rule.by) };
    format!("{column}: {what}{by}: {}", rule.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_muted_have_a_margin_or_the_default() {
        let mut rules = BTreeMap::new();
        parse("a=b=mute").expect("a rule").apply(&mut rules, "ann", "a sensor");
        assert_eq!(text("a=b", &rules["a=b"]), "a=b: muted by ann: a sensor");
        parse("a=b=0.5").expect("a rule").apply(&mut rules, "", "noisy");
        assert_eq!(text("a=b", &rules["a=b"]), "a=b: margin psi 0.5: noisy");
        parse("a=b=default").expect("a rule").apply(&mut rules, "", "");
        assert!(rules.is_empty());
        for wrong in ["a", "=mute", "a=loud", "a="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
