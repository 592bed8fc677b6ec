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

/// The program that this build made; tests lie one folder below it.
pub fn program() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let found = test.ancestors().map(|folder| folder.join("rekindle")).find(|path| path.is_file());
    found.expect("target/release/rekindle must be built first: make build")
}

/// A running `rekindle` with its output in a log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program with `arguments`; what it prints goes to the end of `log`.
    pub fn start(arguments: &[String], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(program())
            .args(arguments)
            .env("REKINDLE__TELEMETRY__LOG", env::var("REKINDLE_TEST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output)
            .spawn()
            .expect("the program starts");
        Self { child, log: log.to_owned() }
    }

    /// Ends it at once, as a lost machine would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Stops it where it is: it holds what it holds and answers nobody, until it is killed.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("a child can be waited for")
    }

    /// Fails the test with the end of the log where the process is gone.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{status}; its last words:\n{}", self.last_words());
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
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
            eprintln!("--- {} ---\n{}", self.log.display(), self.last_words());
        }
    }
}
