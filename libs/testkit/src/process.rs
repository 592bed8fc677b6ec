//! Child processes and ports of a test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    process::Child,
    sync::Mutex,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Ports that tests reserve. They lie below the range from which Linux takes the ports of outgoing connections and of listeners on
/// port 0 (`net.ipv4.ip_local_port_range`, from 32768 by default), so none of these can take a reserved port.
const RESERVABLE: Range<u16> = 20_000..32_000;

/// The locks of this process. The system releases them when the process exits.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Reserves a free loopback port for a server that takes no bound listener, or that a test restarts on the same port. No other call
/// returns the port while this process runs, in this process or another of the same user: each port has a lock file.
pub fn reserve_port() -> u16 {
    let folder = std::env::temp_dir().join(format!("rekindle-test-ports-{}", nix::unistd::getuid()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let mut reserved = RESERVED.lock().expect("no other thread panicked");
    // Processes start at different ports: a server of a test that just ended may still close its connections.
    let offset = std::process::id().wrapping_mul(61) as usize % RESERVABLE.len();
    let port = RESERVABLE.cycle().skip(offset).take(RESERVABLE.len()).find_map(|port| {
        let lock = File::create(folder.join(port.to_string())).expect("the folder is writable");
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        reserved.push(lock);
        Some(port)
    });
    port.expect("loopback has a free port")
}

/// Whether a request to a server on a loopback port has arrived that the server, which is suspended, has not read: by the receive queues of
/// its connections.
pub fn has_unread_request(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("Linux lists its sockets");
    let address = format!("0100007F:{port:04X}");
    sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|socket| match socket[..] {
        // The number, the local and the remote address, the state (1: established), and the lengths of the send and the receive queue.
        [_, local, _, "01", queues, ..] if local == address => !queues.ends_with(":00000000"),
        _ => false,
    })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reserved_port_is_free_and_reserved_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| reserve_port()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            assert!(RESERVABLE.contains(&port));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nothing listens on it");
        }
    }
}
