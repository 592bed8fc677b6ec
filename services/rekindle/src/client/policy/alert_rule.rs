//! `--alert` and `--feed-timeout`.

use std::time::Duration;

use rekindle_domain::alert::{AlertKind, AlertRule, AlertRules, Severity};

use crate::client::parse;

/// A change of the rule of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    kind: AlertKind,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Windows { windows: u32, of: u32 },
    Severity(Severity),
    ResolveAfter(u32),
    Disabled(bool),
    Default,
}

/// A span, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanOrNone(pub(super) Option<Duration>);

pub(super) fn span_or_none(text: &str) -> Result<SpanOrNone, String> {
    if text == "none" {
        return Ok(SpanOrNone(None));
    }
    parse::span(text).map(|span| SpanOrNone(Some(span)))
}

/// `KIND=PART,...`, each part one of N/M, a severity, resolve=N, on, off and default.
pub(super) fn parse(text: &str) -> Result<Change, String> {
    let expected = "expected a kind and its rule, e.g. drift=2/3,critical,resolve=2 or drift=off";
    let (kind, rule) = text.split_once('=').ok_or(expected)?;
    let kind = kind.parse().map_err(|error| format!("the kind {error}"))?;
    Ok(Change { kind, parts: rule.split(',').map(part).collect::<Result<_, _>>()? })
}

fn part(text: &str) -> Result<Part, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no whole number"));
    match text.trim() {
        "on" => Ok(Part::Disabled(false)),
        "off" => Ok(Part::Disabled(true)),
        "default" => Ok(Part::Default),
        text => match (text.split_once('/'), text.strip_prefix("resolve=")) {
            (Some((windows, of)), _) => Ok(Part::Windows { windows: number(windows)?, of: number(of)? }),
            (None, Some(windows)) => number(windows).map(Part::ResolveAfter),
            (None, None) => text.parse().map(Part::Severity).map_err(|_| {
                format!("{text:?} is no part of a rule: expected N/M, info, warning, critical, resolve=N, on, off or default")
            }),
        },
    }
}

impl Change {
    pub(super) fn apply(&self, rules: &mut AlertRules) {
        let mut rule = rules.of(self.kind);
        for part in &self.parts {
            match *part {
                Part::Windows { windows, of } => (rule.windows, rule.of) = (windows, of),
                Part::Severity(severity) => rule.severity = severity,
                Part::ResolveAfter(windows) => rule.resolve_after = windows,
                Part::Disabled(disabled) => rule.disabled = disabled,
                Part::Default => rule = AlertRule::default_of(self.kind),
            }
        }
        if rule == AlertRule::default_of(self.kind) {
            rules.0.remove(&self.kind);
        } else {
            rules.0.insert(self.kind, rule);
        }
    }
}

/// A rule as `--alert` takes it.
pub(super) fn text(rule: &AlertRule) -> String {
    if rule.disabled {
        return "off".to_owned();
    }
    let AlertRule { severity, windows, of, resolve_after, .. } = rule;
    format!("{windows}/{of},{},resolve={resolve_after}", severity.name().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_changed_by_its_parts_and_printed_as_it_is_given() {
        let mut rules = AlertRules::default();
        parse("drift=2/3,critical,resolve=5").expect("a rule").apply(&mut rules);
        let expected = AlertRule { severity: Severity::Critical, windows: 2, of: 3, resolve_after: 5, disabled: false };
        assert_eq!(rules.of(AlertKind::Drift), expected);
        assert_eq!(text(&expected), "2/3,critical,resolve=5");
        parse("drift=off").expect("a rule").apply(&mut rules);
        assert_eq!((text(&rules.of(AlertKind::Drift)), rules.of(AlertKind::Drift).windows), ("off".to_owned(), 2));
        parse("drift=default").expect("a rule").apply(&mut rules);
        assert_eq!(rules, AlertRules::default());
        parse("data-fault=info").expect("a rule").apply(&mut rules);
        assert_eq!(rules.of(AlertKind::DataFault).severity, Severity::Info);
        for wrong in ["drift", "drifting=1/2", "drift=1/x", "drift=loud", "drift=", "drift=resolve=x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
