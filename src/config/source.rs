//! Where values come from: defaults, a TOML file, the environment, flags. Later ones win.
//!
//! In: the place of the file, a list of variables, `NAME=VALUE` flags. Out: a text per setting with its origin,
//! or every complaint at once. It must stay true that an unknown name is an error wherever it stands,
//! and that a secret's value is in no complaint.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value, ValueKind};

use super::catalogue::{self, SETTINGS};

/// Prefix of our variables in the environment.
const PREFIX: &str = "RELAY_";
/// Suffix of a variable that names a file with the value in it.
const FILE_SUFFIX: &str = "_FILE";
/// The variable that names the configuration file, as `--config` does.
pub const CONFIG_VARIABLE: &str = "RELAY_CONFIG";

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the configuration file.
    File(PathBuf),
    /// In the environment.
    Variable(String),
    /// In a file that a variable names.
    VariableFile(String, PathBuf),
    /// On the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::VariableFile(name, path) => write!(f, "{name} ({})", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Everything that settings may be read from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--config`, or `RELAY_CONFIG`.
    pub file: Option<PathBuf>,
    /// The environment; names without our prefix are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set` and its likes: name, value, and how it was written.
    pub flags: Vec<(String, String, String)>,
}

impl Inputs {
    /// The process's own environment, with the file that it names unless `file` is given.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>, flags: Vec<(String, String, String)>) -> Self {
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                Some((name, value.to_string_lossy().into_owned()))
            })
            .collect();
        let named =
            environment.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
        let file = file.or_else(|| named.map(|(_, path)| PathBuf::from(path)));
        Self { file, environment, flags }
    }
}

/// The texts that were found, and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub texts: BTreeMap<&'static str, (String, Origin)>,
    pub complaints: Vec<String>,
}

impl Layers {
    /// Reads all of `inputs`, weakest first.
    pub fn read(inputs: &Inputs) -> Self {
        let mut layers = Self::default();
        if let Some(path) = &inputs.file {
            layers.read_file(path);
        }
        layers.read_environment(&inputs.environment);
        for (name, value, flag) in &inputs.flags {
            layers.set(name, value.clone(), Origin::Flag(flag.clone()));
        }
        layers
    }

    fn set(&mut self, name: &str, text: String, origin: Origin) {
        match catalogue::find(name) {
            Some(setting) => {
                self.texts.insert(setting.name, (text, origin));
            }
            None => self.complaints.push(unknown(name, &origin)),
        }
    }

    fn read_file(&mut self, path: &Path) {
        let source = File::from(path).format(FileFormat::Toml).required(true);
        let values = Config::builder().add_source(source).build();
        let values = match values.and_then(Config::try_deserialize::<BTreeMap<String, Value>>) {
            Ok(values) => values,
            Err(error) => {
                let reason = std::fs::File::open(path).err().map(|error| error.to_string());
                let reason = reason.unwrap_or_else(|| toml_reason(&error));
                self.complaints.push(format!("cannot read {}: {reason}", path.display()));
                return;
            }
        };
        for (name, value) in values {
            let origin = Origin::File(path.to_owned());
            match scalar(value.kind) {
                Some(text) => self.set(&name, text, origin),
                None if catalogue::find(&name).is_some() => self.complaints.push(format!(
                    "{name} in {origin}: a table or a list, but one value is expected"
                )),
                None => self.complaints.push(unknown(&name, &origin)),
            }
        }
    }

    fn read_environment(&mut self, environment: &[(String, String)]) {
        // Compose files pass variables on that nobody has set: an empty one says nothing.
        let ours = environment
            .iter()
            .filter(|(name, value)| !value.is_empty() && name != CONFIG_VARIABLE)
            .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)));
        for (variable, rest, value) in ours {
            let name = rest.to_ascii_lowercase();
            if catalogue::find(&name).is_some() {
                if self.is_from_environment(&name) {
                    self.complaints.push(format!(
                        "{variable} and {variable}{FILE_SUFFIX} are both set: keep one"
                    ));
                }
                self.set(&name, value.clone(), Origin::Variable(variable.clone()));
                continue;
            }
            match rest.strip_suffix(FILE_SUFFIX).map(str::to_ascii_lowercase) {
                Some(name) if catalogue::find(&name).is_some() => {
                    self.read_variable_file(&name, variable, Path::new(value));
                }
                _ => {
                    let origin = Origin::Variable(variable.clone());
                    self.complaints.push(unknown(&name, &origin));
                }
            }
        }
    }

    fn read_variable_file(&mut self, name: &str, variable: &str, path: &Path) {
        if self.is_from_environment(name) {
            let plain = variable.trim_end_matches(FILE_SUFFIX);
            self.complaints.push(format!("{plain} and {variable} are both set: keep one"));
            return;
        }
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                self.set(name, text, Origin::VariableFile(variable.to_owned(), path.to_owned()));
            }
            Err(error) => {
                self.complaints
                    .push(format!("{variable}: cannot read {}: {error}", path.display()));
            }
        }
    }

    fn is_from_environment(&self, name: &str) -> bool {
        let origin = self.texts.get(name).map(|(_, origin)| origin);
        matches!(origin, Some(Origin::Variable(_) | Origin::VariableFile(..)))
    }
}

fn scalar(kind: ValueKind) -> Option<String> {
    match kind {
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::I128(value) => Some(value.to_string()),
        ValueKind::U64(value) => Some(value.to_string()),
        ValueKind::U128(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
        ValueKind::String(value) => Some(value),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
    }
}

/// What is wrong with a TOML file, without the lines that the parser quotes: a password may stand there.
fn toml_reason(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let quoted = |line: &str| line.contains('|');
    let kept: Vec<&str> = text.lines().filter(|line| !quoted(line)).map(str::trim).collect();
    kept.join(" ").trim().to_owned()
}

fn unknown(name: &str, origin: &Origin) -> String {
    let shown = match origin {
        Origin::Variable(variable) => format!("{variable}: unknown setting {name:?}"),
        Origin::Default | Origin::File(_) | Origin::VariableFile(..) | Origin::Flag(_) => {
            format!("unknown setting {name:?} in {origin}")
        }
    };
    if let Some(near) = catalogue::nearest(name) {
        return format!("{shown}; did you mean {near}?");
    }
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    format!("{shown}; there are {}", names.join(", "))
}
