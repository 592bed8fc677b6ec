//! The clock of child processes.

use std::{
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use rekindle_testkit::Clock;

/// Seconds by which the clock of a new process differs from that of this one.
fn difference(clock: &Clock) -> i64 {
    let printed = Command::new("date").arg("+%s").envs(clock.environment()).output().expect("date runs").stdout;
    let there: i64 = String::from_utf8(printed).expect("text").trim().parse().expect("seconds");
    let here = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    there - i64::try_from(here).expect("seconds")
}

#[test]
fn processes_have_the_clock_of_the_test() {
    let Some(clock) = Clock::find_or_say_skipped() else { return };
    for offset in [0, 7_200, -60] {
        clock.set(offset);
        let found = difference(&clock);
        assert!((found - i64::from(offset)).abs() < 30, "{found} s instead of {offset} s");
    }
}
