//! Layered configuration: compiled-in defaults, then a file, then the environment, then the command line.

mod setting;

use std::{collections::BTreeMap, path::Path, time::Duration};

use config::{Config, ConfigBuilder, File, FileFormat, builder::DefaultState};
use humantime_serde::re::humantime::parse_duration;
use rekindle_domain::validation::{FieldViolation, Violations};
use serde::{
    Deserialize as _, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use crate::Error;
use setting::Setting;

/// Prefix of the environment variables that are read: `REKINDLE__REGISTRY__DATABASE__URL` sets `registry.database.url`.
pub const PREFIX: &str = "REKINDLE__";

/// Reads a duration such as "300s", or "none".
pub fn duration_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "none" {
        return Ok(None);
    }
    parse_duration(&text).map(Some).map_err(|error| {
        D::Error::custom(format!("is {text:?}: expected a duration such as \"300s\", or \"none\": {error}"))
    })
}

/// The layers of a configuration, from the lowest to the highest.
///
/// In a text, `{file:PATH}` stands for the content of the file, so that secrets need not be in variables.
///
/// A key that the target type does not have is an error as long as its structs say `deny_unknown_fields`.
#[derive(Debug)]
pub struct Layers<'a> {
    defaults: &'a str,
    file: Option<&'a Path>,
    variables: BTreeMap<String, String>,
    overrides: Vec<(String, String)>,
}

impl<'a> Layers<'a> {
    /// Defaults as TOML, complete in themselves. The defaults of several services may be concatenated.
    pub fn new(defaults: &'a str) -> Self {
        Self { defaults, file: None, variables: BTreeMap::new(), overrides: Vec::new() }
    }

    /// Adds a TOML file.
    #[must_use]
    pub fn file(mut self, file: Option<&'a Path>) -> Self {
        self.file = file;
        self
    }

    /// Adds environment variables; those without the [`PREFIX`] are ignored.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Adds the environment variables of this process.
    #[must_use]
    pub fn process_variables(self) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        self.variables(std::env::vars_os().filter_map(text))
    }

    /// Adds values from the command line, each with its dotted key.
    #[must_use]
    pub fn overrides<K: Into<String>, V: Into<String>>(mut self, overrides: impl IntoIterator<Item = (K, V)>) -> Self {
        self.overrides.extend(overrides.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Reads the configuration without validating its bounds.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.load(|_| Ok(()))
    }

    /// Reads the configuration and validates it. All problems are reported at once: values of the wrong type, unknown keys, and
    /// whatever `validate` reports of the other values. Each names the layer that the value comes from.
    pub fn load<T: DeserializeOwned>(self, validate: impl Fn(&T) -> Result<(), Violations>) -> Result<T, Error> {
        let defaults = Config::builder().add_source(File::from_str(self.defaults, FileFormat::Toml));
        let mut settings = self.file.map(setting::from_file).transpose()?.unwrap_or_default();
        settings.extend(self.variables.iter().filter_map(|(name, value)| Setting::from_variable(name, value)));
        settings.extend(self.overrides.iter().map(|(key, value)| Setting::from_command_line(key, value)));
        let (settings, missing): (Vec<_>, Vec<_>) =
            settings.into_iter().map(Setting::with_files).partition(Result::is_ok);
        let problems: Vec<String> = missing.into_iter().filter_map(Result::err).collect();
        if !problems.is_empty() {
            return Err(Error::Configuration { problems });
        }
        let settings: Vec<Setting> = settings.into_iter().flatten().collect();

        let problems = match read::<T>(merge(&defaults, &settings)) {
            Ok(config) => match validate(&config) {
                Ok(()) => return Ok(config),
                Err(violations) => with_origins(violations, &settings),
            },
            Err(problem) => diagnose(&defaults, settings, problem, validate),
        };
        Err(Error::Configuration { problems })
    }
}

type Builder = ConfigBuilder<DefaultState>;

fn merge<'a>(defaults: &Builder, settings: impl IntoIterator<Item = &'a Setting>) -> Builder {
    settings.into_iter().fold(defaults.clone(), |builder, setting| setting.apply(builder))
}

fn read<T: DeserializeOwned>(builder: Builder) -> Result<T, String> {
    builder.build().and_then(Config::try_deserialize).map_err(|error| error.to_string())
}

/// Applies each setting alone to the defaults, so that every unreadable one is found with its origin; the readable ones are
/// validated together. If no setting is unreadable alone, `problem` of the whole is all that is known.
fn diagnose<T: DeserializeOwned>(
    defaults: &Builder,
    settings: Vec<Setting>,
    problem: String,
    validate: impl Fn(&T) -> Result<(), Violations>,
) -> Vec<String> {
    if let Err(problem) = read::<T>(defaults.clone()) {
        // Incomplete defaults would blame every setting for what the defaults lack.
        return vec![problem];
    }
    let (mut problems, mut readable) = (Vec::new(), Vec::new());
    for setting in settings {
        match read::<T>(setting.apply(defaults.clone())) {
            Ok(_) => readable.push(setting),
            Err(problem) => problems.push(format!("{}: {}: {problem}", setting.origin, setting.key)),
        }
    }
    if problems.is_empty() {
        return vec![problem];
    }
    if let Ok(Err(violations)) = read::<T>(merge(defaults, &readable)).map(|config| validate(&config)) {
        problems.extend(with_origins(violations, &readable));
    }
    problems
}

/// One line per violation. The highest layer that sets the field is its origin; a default has none.
fn with_origins(violations: Violations, settings: &[Setting]) -> Vec<String> {
    let line = |violation: FieldViolation| match settings.iter().rev().find(|setting| setting.key == violation.field) {
        Some(Setting { origin, .. }) => format!("{origin}: {violation}"),
        None => violation.to_string(),
    };
    violations.into_iter().map(line).collect()
}
