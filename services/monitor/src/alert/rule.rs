//! Whether an alert opens, goes on or is resolved, by the findings of the latest windows. Pure.

use rekindle_domain::alert::AlertRule;

/// A window with a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    /// Its end in milliseconds.
    pub(super) until: i64,
    /// Whether it has the finding.
    pub(super) is_found: bool,
}

/// The alert of a kind so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// It is open, and its last window ends at `until`.
    Open {
        /// In milliseconds.
        until: i64,
    },
    /// None is open. The last window of the resolved ones ends at `until`.
    Closed {
        /// In milliseconds.
        until: Option<i64>,
    },
}

/// What becomes of the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing changes.
    Stay,
    /// An alert opens, about so many windows, from the one that ends at `from` to the one that ends at `until`.
    Open { windows: u32, from: i64, until: i64 },
    /// The alert is about so many windows more, up to the one that ends at `until`.
    Extend { windows: u32, until: i64 },
    /// The alert is resolved: the last so many windows do not have the finding.
    Resolve { windows: u32 },
}

/// Decides by the windows with a verdict, the latest first.
pub(super) fn decide(rule: &AlertRule, observed: &[Observed], past: Past) -> Decision {
    let without = observed.iter().take_while(|window| !window.is_found).count();
    let without = u32::try_from(without).unwrap_or(u32::MAX);
    let has_ended = rule.resolve_after > 0 && without >= rule.resolve_after;
    match past {
        Past::Open { .. } if has_ended => Decision::Resolve { windows: rule.resolve_after },
        Past::Open { until } => {
            let mut later = observed.iter().filter(|window| window.is_found && window.until > until);
            match later.next() {
                Some(last) => Decision::Extend { windows: 1 + count(later), until: last.until },
                None => Decision::Stay,
            }
        }
        Past::Closed { .. } if has_ended || rule.disabled => Decision::Stay,
        Past::Closed { until } => {
            let considered = observed.iter().take(usize::try_from(rule.of).unwrap_or(usize::MAX));
            let mut found =
                considered.filter(|window| window.is_found && until.is_none_or(|until| window.until > until));
            let Some(last) = found.next() else { return Decision::Stay };
            let earlier: Vec<&Observed> = found.collect();
            let windows = 1 + count(earlier.iter());
            let from = earlier.last().map_or(last.until, |first| first.until);
            if windows >= rule.windows { Decision::Open { windows, from, until: last.until } } else { Decision::Stay }
        }
    }
}

fn count(windows: impl Iterator) -> u32 {
    u32::try_from(windows.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use rekindle_domain::alert::AlertKind;

    use super::*;

    /// Windows that end at 1, 2, ..., oldest first: `x` has the finding, `.` has not.
    fn windows(text: &str) -> Vec<Observed> {
        let all = (1..).zip(text.chars()).map(|(until, sign)| Observed { until, is_found: sign == 'x' });
        let mut all: Vec<Observed> = all.collect();
        all.reverse();
        all
    }

    fn rule(windows: u32, of: u32, resolve_after: u32) -> AlertRule {
        AlertRule { windows, of, resolve_after, ..AlertRule::default_of(AlertKind::Drift) }
    }

    const NONE: Past = Past::Closed { until: None };

    #[test]
    fn an_alert_opens_with_enough_of_the_last_windows() {
        let one = rule(1, 1, 2);
        assert_eq!(decide(&one, &windows("..x"), NONE), Decision::Open { windows: 1, from: 3, until: 3 });
        assert_eq!(decide(&one, &windows("x."), NONE), Decision::Stay);
        assert_eq!(decide(&one, &windows(""), NONE), Decision::Stay);
        let two_of_three = rule(2, 3, 2);
        assert_eq!(decide(&two_of_three, &windows("..x"), NONE), Decision::Stay);
        assert_eq!(decide(&two_of_three, &windows("x.x"), NONE), Decision::Open { windows: 2, from: 1, until: 3 });
        assert_eq!(decide(&two_of_three, &windows("xx."), NONE), Decision::Open { windows: 2, from: 1, until: 2 });
        assert_eq!(decide(&two_of_three, &windows("x..x"), NONE), Decision::Stay);
        // It would be resolved at once.
        assert_eq!(decide(&rule(2, 4, 2), &windows("xx.."), NONE), Decision::Stay);
        assert_eq!(decide(&AlertRule { disabled: true, ..one }, &windows("x"), NONE), Decision::Stay);
    }

    #[test]
    fn windows_of_a_resolved_alert_do_not_open_another() {
        let rule = rule(2, 3, 2);
        let closed = |until| Past::Closed { until: Some(until) };
        assert_eq!(decide(&rule, &windows("xxx"), closed(3)), Decision::Stay);
        assert_eq!(decide(&rule, &windows("xxxx"), closed(3)), Decision::Stay);
        assert_eq!(decide(&rule, &windows("xxxxx"), closed(3)), Decision::Open { windows: 2, from: 4, until: 5 });
    }

    #[test]
    fn an_open_alert_is_extended_by_each_window_once() {
        let rule = rule(1, 1, 2);
        let open = |until| Past::Open { until };
        assert_eq!(decide(&rule, &windows("xx"), open(1)), Decision::Extend { windows: 1, until: 2 });
        assert_eq!(decide(&rule, &windows("xx"), open(2)), Decision::Stay);
        assert_eq!(decide(&rule, &windows("x.xx"), open(1)), Decision::Extend { windows: 2, until: 4 });
        assert_eq!(decide(&rule, &windows("xx."), open(1)), Decision::Extend { windows: 1, until: 2 });
    }

    #[test]
    fn an_alert_is_resolved_by_consecutive_windows_without_the_finding_or_by_a_person_alone() {
        let open = Past::Open { until: 1 };
        assert_eq!(decide(&rule(1, 1, 2), &windows("x."), open), Decision::Stay);
        assert_eq!(decide(&rule(1, 1, 2), &windows("x.."), open), Decision::Resolve { windows: 2 });
        assert_eq!(decide(&rule(1, 1, 0), &windows("x......"), open), Decision::Stay);
    }
}
