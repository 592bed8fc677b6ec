//! Child processes and ports of a test.

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

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// The path of a program of `scripts/install-tools.sh`: from the variable, in the workspace's `.tools/bin`, or on `PATH`.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin").join(name);
    if installed.exists() { installed } else { OsStr::new(name).into() }
}

/// Sends a signal. The process may have exited already.
pub(crate) fn send(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        kill(Pid::from_raw(pid), signal).ok();
    }
}

/// Sends a signal and waits until the process has exited.
pub(crate) fn end(child: &mut Child, signal: Signal) {
    send(child, signal);
    child.wait().ok();
}
