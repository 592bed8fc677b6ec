//! Configuration in layers: what is compiled in < a file < the environment < the command line.

use std::{collections::BTreeMap, path::Path};

use config::{Config, ConfigBuilder, File, FileFormat, Map, Value, ValueKind, builder::DefaultState};
use serde::de::DeserializeOwned;

use crate::Error;

/// Start of every variable that is ours: `REKINDLE__REGISTRY__DATABASE__URL` sets `registry.database.url`.
pub const PREFIX: &str = "REKINDLE__";

/// Reads the configuration of this process.
///
/// `defaults` is TOML that must be complete in itself (several services' defaults may be joined); `file` is TOML;
/// `overrides` are pairs of a dotted key and a value, from the command line. A key that `T` does not know is an error as long as
/// its structs say `deny_unknown_fields`. All problems are reported together, each with the layer that it comes from.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<T, Error> {
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    load_from(defaults, file, variables, overrides)
}

/// [`load`] with the environment as an input.
pub fn load_from<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<T, Error> {
    let defaults = Config::builder().add_source(File::from_str(defaults, FileFormat::Toml));
    let mut settings = file.map(file_settings).transpose()?.unwrap_or_default();
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    settings.extend(variables.iter().filter_map(|(name, value)| variable(name, value)));
    settings.extend(overrides.iter().map(|(key, value)| Setting::text(format!("--set {key}"), key, value)));

    let merged = settings.iter().fold(defaults.clone(), |builder, setting| setting.apply(builder));
    read(merged).map_err(|problem| Error::Configuration { problems: diagnose::<T>(&defaults, &settings, problem) })
}

type Builder = ConfigBuilder<DefaultState>;

/// One value, its dotted key, and where it was said.
struct Setting {
    origin: String,
    key: String,
    value: Value,
}

impl Setting {
    fn text(origin: String, key: &str, value: &str) -> Self {
        Self { origin, key: key.to_owned(), value: Value::new(None, parse(value)) }
    }

    fn apply(&self, builder: Builder) -> Builder {
        // A key that cannot even be written as a path is kept whole, so that it is refused as unknown.
        match builder.clone().set_override(&self.key, self.value.clone()) {
            Ok(builder) => builder,
            Err(_) => builder.add_source(Whole(self.key.clone(), self.value.clone())),
        }
    }
}

/// A key that is no path.
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

/// Lists are written in brackets (`["a", "b"]`); every other text is left to the type that wants it.
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

fn variable(name: &str, value: &str) -> Option<Setting> {
    let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
    Some(Setting::text(name.to_owned(), &key, value))
}

fn file_settings(path: &Path) -> Result<Vec<Setting>, Error> {
    let failed = |reason: String| Error::Configuration { problems: vec![format!("{}: {reason}", path.display())] };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let config = Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut settings = Vec::new();
    leaves(String::new(), config.cache, &format!("{}: ", path.display()), &mut settings);
    Ok(settings)
}

fn leaves(key: String, value: Value, origin: &str, into: &mut Vec<Setting>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            let mut entries: Vec<_> = table.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in entries {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                leaves(key, value, origin, into);
            }
        }
        ValueKind::Table(_) => {}
        _ => into.push(Setting { origin: format!("{origin}{key}"), key, value }),
    }
}

fn read<T: DeserializeOwned>(builder: Builder) -> Result<T, String> {
    builder.build().and_then(Config::try_deserialize).map_err(|error| error.to_string())
}

/// Tries every setting by itself upon the defaults, so that each problem is found and has a culprit. Where none is at fault alone,
/// the problem of the whole is what there is to tell.
fn diagnose<T: DeserializeOwned>(defaults: &Builder, settings: &[Setting], problem: String) -> Vec<String> {
    if let Err(problem) = read::<T>(defaults.clone()) {
        // Incomplete defaults would blame every setting for what they lack themselves.
        return vec![problem];
    }
    let blame = |setting: &Setting| {
        let problem = read::<T>(setting.apply(defaults.clone())).err()?;
        Some(format!("{}: {problem}", setting.origin))
    };
    let problems: Vec<String> = settings.iter().filter_map(blame).collect();
    if problems.is_empty() { vec![problem] } else { problems }
}
