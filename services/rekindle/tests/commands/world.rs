//! A platform in a temporary folder, and client commands run against it.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rekindle_testkit::{eventually, onnx_runtime};
use serde_json::Value;
use tempfile::TempDir;

/// `endpoints.json`, as far as clients need it.
#[derive(serde::Deserialize)]
struct Endpoints {
    control: String,
    nats: String,
    admin: String,
    rest: Vec<String>,
}

/// A running platform. It stops when dropped.
pub(crate) struct World {
    folder: TempDir,
    process: Child,
    endpoints: Endpoints,
    /// The arguments of every command that was run.
    commands: RefCell<Vec<Vec<String>>>,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    /// Starts `rekindle` with `arguments`, which begin with `up`, on free ports in `folder`, and waits until it listens.
    pub(crate) async fn start(folder: TempDir, arguments: &[&str]) -> Self {
        let log = File::create(folder.path().join("up.log")).expect("a log file");
        let mut process = program(folder.path())
            .args(arguments)
            .args(["--free-ports", "--data-dir", "data"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let file = folder.path().join("data/endpoints.json");
        let endpoints = eventually("the platform listens", async || {
            if let Ok(Some(status)) = process.try_wait() {
                panic!("{status}: {}", std::fs::read_to_string(folder.path().join("up.log")).unwrap_or_default());
            }
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        })
        .await;
        Self { folder, process, endpoints, commands: RefCell::default() }
    }

    /// Writes a file into the folder in which commands run.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).expect("a file");
    }

    /// A file that a command has written.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("it was written")
    }

    /// Runs a command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Printed {
        self.commands.borrow_mut().push(arguments.iter().map(|argument| (*argument).to_owned()).collect());
        let output = program(self.folder.path())
            .args(arguments)
            .env("REKINDLE_ADDRESS", &self.endpoints.control)
            .env("REKINDLE_NATS", &self.endpoints.nats)
            .stdin(Stdio::null())
            .output();
        Printed::of(output.expect("the program starts"))
    }

    /// Runs a command that succeeds, and returns its output.
    #[track_caller]
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let printed = self.run(arguments);
        assert_eq!(printed.code, 0, "rekindle {arguments:?}: {printed:?}");
        printed.out
    }

    /// Runs a command with `--json` that succeeds, and returns its parsed output.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(printed.code, 0, "rekindle {arguments:?} --json: {printed:?}");
        serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", printed.out))
    }

    /// Runs a command with `--json` that prints a line per step and exits with `code`, and returns the last line, parsed.
    #[track_caller]
    pub(crate) fn last_json_line(&self, code: i32, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(printed.code, code, "rekindle {arguments:?} --json: {printed:?}");
        serde_json::from_str(printed.out.lines().last().unwrap_or_default()).expect("JSON lines")
    }

    /// Runs a command that exits with `code`, and returns its error message.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, arguments: &[&str]) -> String {
        let printed = self.run(arguments);
        assert_eq!(printed.code, code, "rekindle {arguments:?}: {printed:?}");
        printed.err
    }

    /// The address of the REST interface of the first replica.
    pub(crate) fn rest(&self) -> &str {
        &self.endpoints.rest[0]
    }

    /// The value of a metric of the platform, named with its labels.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let address = self.endpoints.admin.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("the platform listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// The client commands that were never run, or never with `--json`, by the help texts of the program.
    pub(crate) fn untested(&self) -> BTreeSet<String> {
        let commands = self.commands.borrow();
        let was_run = |path: &[String], is_json: bool| {
            commands.iter().any(|command| {
                command.starts_with(path) && command.iter().any(|argument| argument == "--json") == is_json
            })
        };
        let forms = [(false, ""), (true, " --json")];
        let missing = |path: &Vec<String>| {
            let missing = forms.into_iter().filter(|(is_json, _)| !was_run(path, *is_json));
            missing.map(|(_, form)| format!("{}{form}", path.join(" "))).collect::<Vec<_>>()
        };
        client_commands().iter().flat_map(missing).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let id = i32::try_from(self.process.id()).expect("process ids are small");
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- up.log ---\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

impl Printed {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        let code = output.status.code().expect("the program exits");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The program, run in `folder`.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(folder).env("USER", "tester").env("COLUMNS", "200").env("ORT_DYLIB_PATH", onnx_runtime());
    command
}

/// Runs the program without a platform.
pub(crate) fn alone(arguments: &[&str]) -> Printed {
    let folder = tempfile::tempdir().expect("a folder");
    Printed::of(program(folder.path()).args(arguments).stdin(Stdio::null()).output().expect("the program starts"))
}

/// The commands and subcommands that call a platform. The others have tests of their own.
fn client_commands() -> Vec<Vec<String>> {
    const OTHERS: [&str; 8] = ["up", "serve", "demo", "config", "completions", "drift", "profile", "help"];
    let mut found = Vec::new();
    for command in subcommands(&[]).into_iter().filter(|command| !OTHERS.contains(&command.as_str())) {
        let nested = subcommands(&[&command]);
        if nested.is_empty() {
            found.push(vec![command]);
        } else {
            found.extend(nested.into_iter().filter(|name| name != "help").map(|name| vec![command.clone(), name]));
        }
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

/// The names below `Commands:` in the help of a command.
fn subcommands(command: &[&str]) -> Vec<String> {
    let help = alone(&[command, &["--help"]].concat()).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Descriptions that wrap are indented further.
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
