//! The timeline: entries are printed as they are added and kept for the report.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Seconds since the start of the demonstration.
    pub second: String,
    /// Event time reached by the replay; empty before it started.
    pub event_time: String,
    /// The event.
    pub text: String,
}

/// Prints to standard error; standard output is for the summary.
pub(crate) struct Timeline {
    started: Instant,
    entries: Mutex<Vec<Entry>>,
    event_time: Mutex<String>,
}

impl Timeline {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), entries: Mutex::default(), event_time: Mutex::default() }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Sets the event time of the entries to come.
    pub(crate) fn set_event_time(&self, event_time: String) {
        *self.event_time.lock().unwrap_or_else(PoisonError::into_inner) = event_time;
    }

    /// Adds an entry.
    pub(crate) fn add(&self, text: impl Into<String>) {
        let entry = Entry {
            second: format!("{:.1}", self.seconds()),
            event_time: self.event_time.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            text: text.into(),
        };
        // The demonstration continues if the terminal is closed: its report is in files.
        let _ = writeln!(std::io::stderr(), "{:>7} s  {:10}  {}", entry.second, entry.event_time, entry.text);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All entries so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
