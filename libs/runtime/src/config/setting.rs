//! One configured value and its origin.

use std::path::Path;

use config::{Config, File, FileFormat, Map, Value, ValueKind};

use super::{Builder, PREFIX};
use crate::Error;

/// A value, its dotted key, and the layer that sets it.
pub(super) struct Setting {
    /// Names the layer to a person: a file, a variable, or the command line.
    pub(super) origin: String,
    pub(super) key: String,
    value: Value,
}

impl Setting {
    /// `None` for a variable without the prefix.
    pub(super) fn from_variable(name: &str, value: &str) -> Option<Self> {
        let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
        Some(Self { origin: name.to_owned(), key, value: Value::new(None, parse(value)) })
    }

    pub(super) fn from_command_line(key: &str, value: &str) -> Self {
        Self { origin: "command line".to_owned(), key: key.to_owned(), value: Value::new(None, parse(value)) }
    }

    /// The same setting, in whose text `{file:PATH}` is replaced by the content of the file, without the end of its last line.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn with_files(mut self) -> Result<Self, String> {
        if let ValueKind::String(text) = &self.value.kind {
            let replaced = with_files(text).map_err(|problem| format!("{}: {}: {problem}", self.origin, self.key))?;
            self.value.kind = ValueKind::String(replaced);
        }
        Ok(self)
    }

    pub(super) fn apply(&self, builder: Builder) -> Builder {
        // A key that does not parse as a path is added whole, so that it is refused as unknown instead of ignored.
        match builder.clone().set_override(&self.key, self.value.clone()) {
            Ok(builder) => builder,
            Err(_) => builder.add_source(Whole(self.key.clone(), self.value.clone())),
        }
    }
}

fn with_files(text: &str) -> Result<String, String> {
    const OPENING: &str = "{file:";
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some((before, opened)) = rest.split_once(OPENING) {
        let (path, after) = opened.split_once('}').ok_or_else(|| format!("{OPENING} is not closed by a brace"))?;
        let content = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        replaced.push_str(before);
        replaced.push_str(content.trim_end_matches(['\r', '\n']));
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

/// Every value of a TOML file.
pub(super) fn from_file(path: &Path) -> Result<Vec<Setting>, Error> {
    let failed = |reason: String| Error::Configuration { problems: vec![format!("{}: {reason}", path.display())] };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let config = Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build()
        .map_err(|error| failed(without_source(&error.to_string())))?;
    let mut settings = Vec::new();
    collect_leaves(String::new(), config.cache, &path.display().to_string(), &mut settings);
    Ok(settings)
}

/// The message of a syntax error without the lines of the file that it quotes, which may hold secrets.
fn without_source(message: &str) -> String {
    let is_quoted = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let lines = message.lines().filter(|line| !is_quoted(line)).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(": ")
}

fn collect_leaves(key: String, value: Value, origin: &str, into: &mut Vec<Setting>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            let mut entries: Vec<_> = table.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in entries {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                collect_leaves(key, value, origin, into);
            }
        }
        ValueKind::Table(_) => {}
        _ => into.push(Setting { origin: origin.to_owned(), key, value }),
    }
}

/// Lists are written in brackets (`["a", "b"]`); any other text is converted by the type of the field.
fn parse(text: &str) -> ValueKind {
    if !text.starts_with('[') {
        return ValueKind::String(text.to_owned());
    }
    let list = Config::builder().add_source(File::from_str(&format!("list = {text}"), FileFormat::Toml)).build();
    match list.and_then(|config| config.get_array("list")) {
        Ok(list) => ValueKind::Array(list),
        Err(_) => ValueKind::String(text.to_owned()),
    }
}

/// A key that is not a path.
#[derive(Debug, Clone)]
struct Whole(String, Value);

impl config::Source for Whole {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(Map::from([(self.0.clone(), self.1.clone())]))
    }

    fn collect_to(&self, cache: &mut Value) -> Result<(), config::ConfigError> {
        if let ValueKind::Table(table) = &mut cache.kind {
            table.insert(self.0.clone(), self.1.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_file_takes_the_place_of_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "{file:secret}\n").expect("written");
        let path = path.display();
        let text = format!("nats://rekindle:{{file:{path}}}@nats:4222/{{file:{path}}}");
        // What a file holds is not replaced again.
        assert_eq!(with_files(&text).expect("read"), "nats://rekindle:{file:secret}@nats:4222/{file:secret}");
        assert_eq!(with_files("no {brace}").expect("as it is"), "no {brace}");
        assert!(with_files("{file:/nowhere}").expect_err("no file").contains("cannot read /nowhere"));
        assert!(with_files("{file:/nowhere").expect_err("not closed").contains("not closed"));
    }

    #[test]
    fn a_syntax_error_names_the_position_and_quotes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rekindle.toml");
        std::fs::write(&path, "[a]\nsecret = hunter2\n").expect("written");
        let Err(Error::Configuration { problems }) = from_file(&path).map(|_| ()) else { panic!("it is not valid") };
        assert!(problems[0].contains("line 2") && !problems[0].contains("hunter2"), "{problems:?}");
    }
}
