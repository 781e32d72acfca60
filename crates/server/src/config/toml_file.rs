//! The TOML file: every key is looked up in the table of settings, and one that is not there is refused.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ServerConfig;
use super::keys::{KEYS, Key, Kind, SECTIONS};
use crate::error::ConfigError;

impl ServerConfig {
    /// Reads a TOML file's text; what it does not name keeps its default. `path` is for messages.
    ///
    /// # Errors
    /// Text that is no TOML, an unknown section or key (told with those there are), a value of the wrong
    /// kind or out of its range.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file = File { text, path };
        let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        let mut config = Self::default();
        for (section, body) in root.get_ref() {
            let known = SECTIONS.iter().map(|(name, _)| *name);
            if !known.clone().any(|name| name == section.get_ref()) {
                return Err(file.unknown(section.span(), section.get_ref(), known));
            }
            let DeValue::Table(entries) = body.get_ref() else {
                return Err(file.wrong(body.span(), section.get_ref(), "a table of settings"));
            };
            for (name, value) in entries {
                let keys = || KEYS.iter().filter(|key| key.section == section.get_ref());
                let Some(key) = keys().find(|key| key.name == name.get_ref()) else {
                    let path = format!("{}.{}", section.get_ref(), name.get_ref());
                    return Err(file.unknown(name.span(), &path, keys().map(|key| key.name)));
                };
                file.set(&mut config, key, value.get_ref(), value.span())?;
            }
        }
        config.validate()?;
        Ok(config)
    }
}

/// The file that is being read, for messages.
struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn set(
        &self,
        config: &mut ServerConfig,
        key: &Key,
        value: &DeValue<'_>,
        span: Range<usize>,
    ) -> Result<(), ConfigError> {
        match &key.kind {
            Kind::Number {
                least, most, set, ..
            } => {
                let expected = format!("a whole number between {least} and {most}");
                let number = value
                    .as_integer()
                    .and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok())
                    .filter(|number| (*least..=*most).contains(number))
                    .ok_or_else(|| self.wrong(span, &key.path(), &expected))?;
                set(config, number);
                Ok(())
            }
            Kind::Text { what, set, .. } => {
                let text = value
                    .as_str()
                    .ok_or_else(|| self.wrong(span.clone(), &key.path(), what))?;
                set(config, text).map_err(|_| self.wrong(span, &key.path(), what))
            }
        }
    }

    fn unknown<'k>(
        &self,
        span: Range<usize>,
        key: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> ConfigError {
        ConfigError::UnknownKey {
            path: self.path.to_owned(),
            line: self.line(&span),
            key: key.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }

    fn wrong(&self, span: Range<usize>, key: &str, expected: &str) -> ConfigError {
        ConfigError::WrongValue {
            path: self.path.to_owned(),
            line: self.line(&span),
            key: key.to_owned(),
            found: self.text.get(span).unwrap_or_default().to_owned(),
            expected: expected.to_owned(),
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text[..span.start.min(self.text.len())]
            .matches('\n')
            .count()
    }
}
