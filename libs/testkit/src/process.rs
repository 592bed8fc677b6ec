//! Child processes of a test.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Child,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A loopback port that nobody listened on just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Where a program of `scripts/install-tools.sh` is: named by the variable, in the workspace's `.tools/bin`, or on the path.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin").join(name);
    if installed.exists() { installed } else { OsStr::new(name).into() }
}

/// Sends a signal and waits until the process is gone.
pub(crate) fn end(child: &mut Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // A process that has ended already is what is wanted.
        kill(Pid::from_raw(pid), signal).ok();
    }
    child.wait().ok();
}
