//! A headless Chromium, which lays out a page.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The programs that are tried, in the order of preference.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Starts no service of the browser, and reaches no network.
const OPTIONS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Writes the widths of the page into its title. Tables in folded parts of the page have no layout, so all parts are unfolded.
const MEASURE: &str = r#"<script>
document.querySelectorAll("details").forEach(part => part.open = true);
const wide = [...document.querySelectorAll("table, figure svg, svg.chart")].map(item => {
  const card = item.closest("section, details.column, header") || document.body;
  const style = getComputedStyle(card);
  const room = card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return [item.getBoundingClientRect().width, room].map(Math.round).join("/");
});
parent.document.title = "measured " + document.documentElement.scrollWidth + " " + wide.join(" ") + ".";
</script>"#;

/// The start of a policy that forbids scripts; the copy that is measured has none.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\"";

/// An installed Chromium.
#[derive(Debug, Clone)]
pub struct Browser {
    program: PathBuf,
}

/// The widths of a page as laid out, in CSS pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the page; more than the window if the page has to be scrolled sideways.
    pub page: u32,
    /// Of each table and chart, and of the content of the card that holds it, in the order of the page.
    pub tables: Vec<(u32, u32)>,
}

impl Browser {
    /// The installed Chromium; `None`, and a message, if there is none.
    pub fn find_or_say_skipped() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = env::split_paths(&path).collect();
        let candidates = PROGRAMS.iter().flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
        let found = candidates.into_iter().find(|candidate| candidate.is_file());
        if found.is_none() {
            println!("SKIPPED: Chromium is not installed (scripts/install-tools.sh chromium)");
        }
        found.map(|program| Self { program })
    }

    /// Lays out a page without scripts in a window of `width` pixels.
    ///
    /// # Panics
    /// When the browser does not start, or does not measure the page.
    pub fn lay_out(&self, page: &str, width: u32) -> Layout {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("page.html");
        fs::write(&file, framed(&measured(page), width)).expect("the folder is writable");
        let output = self.command(folder.path()).arg("--dump-dom").arg(&file).output();
        let output = output.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        let (page, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        parse(&page).unwrap_or_else(|| panic!("the page was not measured, {}: {errors}", output.status))
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(OPTIONS);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        command.stdin(Stdio::null());
        command
    }
}

/// A copy of the page that measures itself.
fn measured(page: &str) -> String {
    let policy = page.lines().find(|line| line.starts_with(POLICY));
    let page = policy.map_or_else(|| page.to_owned(), |policy| page.replacen(policy, "", 1));
    page.replacen("</body>", &format!("{MEASURE}</body>"), 1)
}

/// The page in a frame of a width: windows of the browser have a smallest width, which is more than that of a phone.
fn framed(page: &str, width: u32) -> String {
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<!doctype html><title></title><iframe style=\"border:0;width:{width}px;height:1000px\" srcdoc=\"{page}\"></iframe>"
    )
}

/// Reads the title.
fn parse(page: &str) -> Option<Layout> {
    let (_, title) = page.split_once("<title>measured ")?;
    let (title, _) = title.split_once(".</title>")?;
    let mut words = title.split_whitespace();
    let page = words.next()?.parse().ok()?;
    let tables = words.map(|word| {
        let (table, card) = word.split_once('/')?;
        Some((table.parse().ok()?, card.parse().ok()?))
    });
    Some(Layout { page, tables: tables.collect::<Option<_>>()? })
}
