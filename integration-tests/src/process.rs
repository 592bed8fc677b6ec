//! The program as a child process.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rekindle_testkit::eventually;

/// The program of this build, one folder above its tests.
pub fn program() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let found = test.ancestors().map(|folder| folder.join("rekindle")).find(|path| path.is_file());
    found.expect("target/release/rekindle must be built first: make build")
}

/// A process that the program has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildProcess(i32);

impl ChildProcess {
    /// Kills it.
    pub fn kill(self) {
        kill(Pid::from_raw(self.0), Signal::SIGKILL).expect("it runs, and is ours");
    }
}

/// The children of every thread of a process.
fn children(process: u32) -> Vec<ChildProcess> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let ids = listed.flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    ids.filter_map(|id| id.parse().ok().map(ChildProcess)).collect()
}

/// A running `rekindle` with its output in a log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program with `arguments`; its output is appended to `log`.
    pub fn start(arguments: &[String], log: &Path) -> Self {
        Self::start_in(&[], arguments, log)
    }

    /// The same with further variables in its environment.
    pub fn start_in(environment: &[(String, String)], arguments: &[String], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(program())
            .args(arguments)
            .envs(environment.iter().cloned())
            .env("ORT_DYLIB_PATH", rekindle_testkit::onnx_runtime())
            .env("REKINDLE__TELEMETRY__LOG", env::var("REKINDLE_TEST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output)
            .spawn()
            .expect("the program starts");
        Self { child, log: log.to_owned() }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Suspends it with SIGSTOP: it keeps its connections and does not answer.
    pub fn suspend(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Resumes it after [`suspend`](Self::suspend).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it with SIGTERM, suspended or not, and waits until it has exited.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
        self.child.wait().expect("a child can be waited for")
    }

    /// Fails the test with the end of the log if the process has exited.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{status}; the end of its log:\n{}", self.end_of_log());
        }
    }

    /// Whether it has exited.
    pub fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its child with that name, once there is one.
    pub async fn child_named(&self, name: &str) -> ChildProcess {
        eventually(&format!("the child {name}"), async || {
            let is_named = |child: &ChildProcess| {
                std::fs::read_to_string(format!("/proc/{}/comm", child.0)).is_ok_and(|comm| comm.trim_end() == name)
            };
            let children = children(self.child.id());
            children.iter().copied().find(is_named).ok_or_else(|| format!("{children:?}"))
        })
        .await
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes, without that of mapped files; 0 once it has exited.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) << 10
    }

    /// Its output.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.end_of_log());
        }
    }
}
