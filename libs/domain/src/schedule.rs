//! Times of the day and of the calendar in a policy: when a retraining is scheduled, and when none starts.

use std::{str::FromStr as _, time::Duration};

use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    validation::{Checks, Violations},
};

/// When a workflow starts, whatever the monitor reports. A time at which a workflow of the model has not ended is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of the month, month and day of the week, as in a crontab file; L, W and # are understood. By the clock of the
    /// time zone: an hour that the change to summer time skips starts at its end, and one that is repeated starts once.
    pub cron: String,
    /// A name of the IANA time zone database, e.g. `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Each time is delayed by a part of this, which depends on the model and the time alone, so that models with one schedule do not start at
    /// once.
    #[serde(default, with = "humantime_serde")]
    pub jitter: Duration,
    /// Whether the latest time that no orchestrator was there for starts a workflow later than [`Schedule::GRACE`].
    #[serde(default)]
    pub catch_up: bool,
}

/// A time of a schedule that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time of the schedule, without the jitter.
    pub at: DateTime<Utc>,
    /// Whether it came too long ago to start a workflow.
    pub is_missed: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Minutes that a change of the clock skips, at most.
const LONGEST_GAP: i64 = 24 * 60;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Schedule {
    /// How late a workflow may start without [`catch_up`](Self::catch_up).
    pub const GRACE: Duration = Duration::from_secs(300);

    /// A schedule in UTC.
    pub fn new(cron: impl Into<String>) -> Self {
        Self { cron: cron.into(), time_zone: utc(), jitter: Duration::ZERO, catch_up: false }
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let expected = "expected minute, hour, day of the month, month and day of the week, e.g. 0 3 * * 1";
        let text = &self.cron;
        match self.parsed() {
            Ok(cron) if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_err() => {
                checks.violation("cron", format!("is {text:?}: no day of the calendar matches"));
            }
            Ok(_) => {}
            Err(error) => checks.violation("cron", format!("is {text:?}: {expected}: {error}")),
        }
        check_zone(&mut checks, &self.time_zone);
        checks.require(self.jitter <= DAY, "jitter", format!("{:?}", self.jitter), "at most 1 day");
        checks.finish()
    }

    fn parsed(&self) -> Result<Cron, croner::errors::CronError> {
        CronParser::builder().seconds(Seconds::Disallowed).build().parse(&self.cron)
    }

    /// The latest time of the schedule after `after` that has come by `now`. A schedule that is not valid has none.
    pub fn due(&self, name: &str, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<Due> {
        let (cron, zone) = self.parsed().ok().zip(Tz::from_str(&self.time_zone).ok())?;
        let mut until = now.with_timezone(&zone);
        // With jitter, the latest time may be still to come, and an earlier one has come.
        loop {
            let time = cron.find_previous_occurrence(&until, true).ok()?;
            let at = time.to_utc();
            if at <= after {
                return None;
            }
            let starts = at + self.delay(name, at);
            if starts <= now {
                let is_missed = !self.catch_up && starts + Self::GRACE < now;
                return Some(Due { at, is_missed });
            }
            until = time - TimeDelta::seconds(1);
        }
    }

    /// The next time after `now`, without the jitter.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (cron, zone) = self.parsed().ok().zip(Tz::from_str(&self.time_zone).ok())?;
        cron.find_next_occurrence(&now.with_timezone(&zone), false).ok().map(|time| time.to_utc())
    }

    /// The part of the jitter by which a time is delayed.
    fn delay(&self, name: &str, at: DateTime<Utc>) -> TimeDelta {
        let digest = Digest::of(format!("{name}/{}", at.timestamp()).as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_bytes()[..8]);
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        let part = u64::from_le_bytes(bytes).checked_rem(millis).unwrap_or(0);
        TimeDelta::milliseconds(i64::try_from(part).unwrap_or(0))
    }
}

/// A part of each day in which no workflow starts by itself: it is queued until the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// The beginning, by the clock of the time zone.
    pub from: NaiveTime,
    /// The end, exclusive; before the beginning, it is that of the next day.
    pub until: NaiveTime,
    /// A name of the IANA time zone database.
    #[serde(default = "utc")]
    pub time_zone: String,
}

impl QuietHours {
    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require(self.from != self.until, "until", self.until, "another time than from");
        check_zone(&mut checks, &self.time_zone);
        checks.finish()
    }

    /// The end of the quiet hours that `now` is in; `None` outside of them.
    pub fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let zone = Tz::from_str(&self.time_zone).ok()?;
        let local = now.with_timezone(&zone).naive_local();
        let (day, time) = (local.date(), local.time());
        let wraps = self.from > self.until;
        let is_quiet =
            if wraps { time >= self.from || time < self.until } else { (self.from..self.until).contains(&time) };
        if !is_quiet {
            return None;
        }
        let day = if wraps && time >= self.from { day.checked_add_days(Days::new(1))? } else { day };
        // The change to summer time may skip the end: then it is the first time after the gap.
        let end = day.and_time(self.until);
        let ends = (0..=LONGEST_GAP).map(|minutes| zone.from_local_datetime(&(end + TimeDelta::minutes(minutes))));
        let end = ends.into_iter().find_map(|end| end.latest());
        end.map(|end| end.to_utc()).filter(|end| *end > now)
    }
}

fn check_zone(checks: &mut Checks, name: &str) {
    let is_known = Tz::from_str(name).is_ok();
    checks.require(is_known, "time_zone", format!("{name:?}"), "a name such as Europe/Berlin or UTC");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect(text).to_utc()
    }

    fn nightly() -> Schedule {
        Schedule { time_zone: "Europe/Berlin".to_owned(), ..Schedule::new("30 3 * * *") }
    }

    fn on_time(text: &str) -> Option<Due> {
        Some(Due { at: at(text), is_missed: false })
    }

    #[test]
    fn a_time_is_due_once_and_by_the_clock_of_its_zone() {
        let schedule = nightly();
        let set = at("2026-01-10T12:00:00Z");
        assert_eq!(schedule.due("m", set, at("2026-01-11T02:29:59Z")), None);
        assert_eq!(schedule.due("m", set, at("2026-01-11T02:30:00Z")), on_time("2026-01-11T02:30:00Z"));
        assert_eq!(schedule.due("m", at("2026-01-11T02:30:00Z"), at("2026-01-11T02:31:00Z")), None);
        assert_eq!(schedule.next(at("2026-07-11T02:30:00Z")), Some(at("2026-07-12T01:30:00Z")), "summer time");
    }

    #[test]
    fn a_missed_time_starts_only_where_the_schedule_catches_up() {
        let (set, late) = (at("2026-01-10T12:00:00Z"), at("2026-01-13T09:00:00Z"));
        let latest = at("2026-01-13T02:30:00Z");
        assert_eq!(nightly().due("m", set, late), Some(Due { at: latest, is_missed: true }));
        let catches_up = Schedule { catch_up: true, ..nightly() };
        assert_eq!(catches_up.due("m", set, late), Some(Due { at: latest, is_missed: false }), "the latest, and once");
    }

    #[test]
    fn the_change_to_summer_time_skips_no_day_and_repeats_none() {
        let schedule = Schedule { time_zone: "Europe/Berlin".to_owned(), ..Schedule::new("30 2 * * *") };
        // In 2026 the clock goes from 02:00 to 03:00 on 29 March and from 03:00 to 02:00 on 25 October.
        for (first, days) in [("2026-03-27T00:00:00Z", 4), ("2026-10-23T00:00:00Z", 4)] {
            let (mut seen, first) = (Vec::new(), at(first));
            let mut after = first;
            for minute in 0..days * 24 * 60 {
                if let Some(due) = schedule.due("m", after, first + TimeDelta::minutes(minute)) {
                    seen.push(due.at);
                    after = due.at;
                }
            }
            assert_eq!(seen.len(), usize::try_from(days).expect("few"), "{seen:?}");
        }
    }

    #[test]
    fn jitter_spreads_models_and_loses_no_time() {
        let schedule = Schedule { jitter: Duration::from_secs(3600), ..Schedule::new("0 * * * *") };
        let set = at("2026-01-10T00:30:00Z");
        let mut starts = Vec::new();
        for name in ["a", "b", "c"] {
            let mut after = set;
            let mut count = 0;
            for minute in 0..24 * 60 {
                let now = set + TimeDelta::minutes(minute);
                if let Some(due) = schedule.due(name, after, now) {
                    assert!(!due.is_missed && due.at > after);
                    after = due.at;
                    count += 1;
                    if count == 1 {
                        starts.push(now);
                    }
                }
            }
            assert!((22..=24).contains(&count), "{count}");
        }
        starts.dedup();
        assert!(starts.len() > 1, "{starts:?}");
    }

    #[test]
    fn quiet_hours_end_on_the_day_that_their_clock_says() {
        let time = |text: &str| text.parse().expect("a time");
        let night = QuietHours { from: time("22:00:00"), until: time("06:00:00"), time_zone: "UTC".to_owned() };
        assert_eq!(night.end(at("2026-01-10T21:59:59Z")), None);
        assert_eq!(night.end(at("2026-01-10T22:00:00Z")), Some(at("2026-01-11T06:00:00Z")));
        assert_eq!(night.end(at("2026-01-11T05:59:59Z")), Some(at("2026-01-11T06:00:00Z")));
        assert_eq!(night.end(at("2026-01-11T06:00:00Z")), None);
        let spring =
            QuietHours { from: time("01:00:00"), until: time("02:30:00"), time_zone: "Europe/Berlin".to_owned() };
        assert_eq!(spring.end(at("2026-03-29T00:15:00Z")), Some(at("2026-03-29T01:00:00Z")), "02:30 is skipped");
    }

    #[test]
    fn each_bound_is_named() {
        for (field, schedule) in [
            ("cron", Schedule::new("every day")),
            ("cron", Schedule::new("* * * * * *")),
            ("cron", Schedule::new("0 0 31 2 *")),
            ("time_zone", Schedule { time_zone: "Berlin".to_owned(), ..nightly() }),
            ("jitter", Schedule { jitter: 2 * DAY, ..nightly() }),
        ] {
            let violations = schedule.validate().expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
        let never = QuietHours { from: NaiveTime::MIN, until: NaiveTime::MIN, time_zone: "UTC".to_owned() };
        assert!(never.validate().is_err());
        assert_eq!(nightly().validate(), Ok(()));
    }
}
