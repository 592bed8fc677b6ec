//! Child processes that do not outlive this one.

use nix::sys::signal::Signal;
use tokio::process::Command;

/// Lets the system send SIGTERM to the child when this process ends, however it ends: a killed parent must leave nothing behind that holds
/// ports and files. On other systems than Linux the child lives on.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the only way to run code between fork and exec; the closure only makes one system call"
)]
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe, and the closure neither allocates nor locks.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(std::io::Error::from));
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_parent(_: &mut Command) {}
