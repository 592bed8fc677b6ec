//! The timeline: each line is printed as it happens and kept for the report.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// One line of the story.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Seconds since the demonstration began.
    pub second: String,
    /// How far the replay had come, in the time of the data; empty before it began.
    pub event_time: String,
    /// What happened.
    pub text: String,
}

/// Tells the story to standard error, so that standard output stays for programs.
pub(crate) struct Story {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    event_time: Mutex<String>,
}

impl Story {
    /// Begins the story now.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), entries: Mutex::default(), event_time: Mutex::default() }
    }

    /// Seconds since it began.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Notes how far the replay has come.
    pub(crate) fn reached(&self, event_time: String) {
        *self.event_time.lock().unwrap_or_else(PoisonError::into_inner) = event_time;
    }

    /// Tells one thing.
    pub(crate) fn tell(&self, text: impl Into<String>) {
        let entry = Entry {
            second: format!("{:.1}", self.seconds()),
            event_time: self.event_time.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            text: text.into(),
        };
        // A closed terminal is no reason to stop a measurement.
        let _ = writeln!(std::io::stderr(), "{:>7} s  {:10}  {}", entry.second, entry.event_time, entry.text);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All that was told.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
