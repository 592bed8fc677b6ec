//! The flags of the triggers.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveTime;
use humantime::format_duration;
use rekindle_domain::{
    Policy, Trigger,
    schedule::{QuietHours, Schedule},
    validation::{Checks, Violations},
};

use super::replace;
use crate::client::parse;

/// What starts a workflow, and what keeps it from starting.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Args {
    /// Triggers that start a workflow, or none
    #[arg(long, value_name = "TRIGGER,..", value_delimiter = ',')]
    on: Option<Vec<On>>,
    /// When a workflow starts besides, as in a crontab file, e.g. '0 3 * * 1', or none
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Time zone of the schedule, e.g. Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    schedule_zone: Option<String>,
    /// Each time of the schedule is delayed by a part of this, so that models with the same schedule do not start at once
    #[arg(long, value_name = "D", value_parser = parse::span)]
    schedule_jitter: Option<Duration>,
    /// Whether a time of the schedule that was missed starts a workflow later
    #[arg(long, value_name = "BOOL")]
    schedule_catch_up: Option<bool>,
    /// Part of each day in which no workflow starts by itself, e.g. 22:00-06:00, or none
    #[arg(long, value_name = "FROM-UNTIL", value_parser = hours)]
    quiet_hours: Option<Hours>,
    /// Time zone of the quiet hours
    #[arg(long, value_name = "ZONE")]
    quiet_zone: Option<String>,
    /// Minimum event time between two triggers
    #[arg(long, value_name = "D", value_parser = parse::span)]
    cooldown: Option<Duration>,
    /// Challengers that the gate rejects in a row from which on the cooldown of drift and windows is doubled; 0 for never
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    backoff_after: Option<u32>,
    /// Trainings that may begin within 24 hours
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    max_trainings_per_day: Option<u32>,
}

/// A trigger, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum On {
    /// Drift of inputs or predictions
    Drift,
    /// Degradation of model quality
    Degradation,
    /// A new version of the dataset, on which the challenger is trained
    DatasetVersion,
    /// Every window whose outcomes have arrived, whatever was found in it
    Window,
    /// No trigger: workflows are started manually
    None,
}

impl On {
    fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Drift => Some(Trigger::Drift),
            Self::Degradation => Some(Trigger::Degradation),
            Self::DatasetVersion => Some(Trigger::DatasetVersion),
            Self::Window => Some(Trigger::Window),
            Self::None => None,
        }
    }
}

/// Two times of the day, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hours(Option<(NaiveTime, NaiveTime)>);

fn hours(text: &str) -> Result<Hours, String> {
    if text == "none" {
        return Ok(Hours(None));
    }
    let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
    let parsed = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
    parsed.map(|hours| Hours(Some(hours))).ok_or_else(|| "expected two times of the day, e.g. 22:00-06:00".to_owned())
}

impl Args {
    /// Changes what the flags give.
    pub(super) fn change(&self, policy: &mut Policy) -> Result<(), Violations> {
        if let Some(on) = &self.on {
            policy.triggers = triggers(on)?;
        }
        replace(&mut policy.cooldown, self.cooldown);
        replace(&mut policy.backoff_after, self.backoff_after);
        replace(&mut policy.max_trainings_per_day, self.max_trainings_per_day);
        self.change_schedule(&mut policy.schedule)?;
        self.change_quiet_hours(&mut policy.quiet_hours)
    }

    fn change_schedule(&self, schedule: &mut Option<Schedule>) -> Result<(), Violations> {
        match self.schedule.as_deref() {
            None => {}
            Some("none") => *schedule = None,
            Some(cron) => schedule.get_or_insert_with(|| Schedule::new(cron)).cron = cron.to_owned(),
        }
        let mut checks = Checks::new();
        let Some(schedule) = schedule else {
            let given = [
                ("--schedule-zone", self.schedule_zone.is_some()),
                ("--schedule-jitter", self.schedule_jitter.is_some()),
                ("--schedule-catch-up", self.schedule_catch_up.is_some()),
            ];
            for (flag, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                checks.violation(flag, "needs a schedule: specify --schedule");
            }
            return checks.finish();
        };
        replace(&mut schedule.time_zone, self.schedule_zone.clone());
        replace(&mut schedule.jitter, self.schedule_jitter);
        replace(&mut schedule.catch_up, self.schedule_catch_up);
        Ok(())
    }

    fn change_quiet_hours(&self, quiet: &mut Option<QuietHours>) -> Result<(), Violations> {
        match self.quiet_hours {
            None => {}
            Some(Hours(None)) => *quiet = None,
            Some(Hours(Some((from, until)))) => {
                let time_zone = quiet.take().map_or_else(|| "UTC".to_owned(), |quiet| quiet.time_zone);
                *quiet = Some(QuietHours { from, until, time_zone });
            }
        }
        match (quiet, &self.quiet_zone) {
            (Some(quiet), zone) => replace(&mut quiet.time_zone, zone.clone()),
            (None, Some(_)) => {
                return Err(Violations::of("--quiet-zone", "needs quiet hours: specify --quiet-hours"));
            }
            (None, None) => {}
        }
        Ok(())
    }
}

/// The triggers that a flag names.
pub(crate) fn triggers(on: &[On]) -> Result<BTreeSet<Trigger>, Violations> {
    if on.contains(&On::None) && on.len() > 1 {
        return Err(Violations::of("--on", "specify either none or triggers, not both"));
    }
    Ok(on.iter().filter_map(|on| on.trigger()).collect())
}

/// The triggers in words.
pub(crate) fn words(policy: &Policy) -> String {
    let mut parts: Vec<String> =
        policy.triggers.iter().map(|trigger| trigger.name().to_lowercase().replace('_', " ")).collect();
    if let Some(Schedule { cron, time_zone, .. }) = &policy.schedule {
        parts.push(format!("schedule {cron} ({time_zone})"));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// The quiet hours in words; empty if there are none.
pub(super) fn quiet_words(policy: &Policy) -> String {
    let words = |quiet: &QuietHours| format!("{} to {} ({})", quiet.from, quiet.until, quiet.time_zone);
    policy.quiet_hours.as_ref().map(words).unwrap_or_default()
}

/// The cooldown in words.
pub(super) fn cooldown_words(policy: &Policy) -> String {
    let cooldown = format_duration(policy.cooldown);
    match policy.backoff_after {
        0 => cooldown.to_string(),
        1 => format!("{cooldown}, doubled after each rejected challenger"),
        after => format!("{cooldown}, doubled from {after} rejected challengers in a row on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_are_two_times() {
        let time = |hour| NaiveTime::from_hms_opt(hour, 0, 0).expect("a time");
        assert_eq!(hours("22:00-06:00"), Ok(Hours(Some((time(22), time(6))))));
        assert_eq!(hours("none"), Ok(Hours(None)));
        for wrong in ["", "22:00", "22-6", "24:00-06:00"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_of_a_schedule_need_one() {
        let mut schedule = None;
        let args = Args { schedule_zone: Some("UTC".to_owned()), ..Args::default() };
        let refused = args.change_schedule(&mut schedule).expect_err("no schedule");
        assert_eq!(refused.to_string(), "--schedule-zone: needs a schedule: specify --schedule");
        let args = Args { schedule: Some("0 3 * * 1".to_owned()), ..args };
        assert_eq!(args.change_schedule(&mut schedule), Ok(()));
        assert_eq!(schedule, Some(Schedule::new("0 3 * * 1")));
    }
}
