//! Where values come from: defaults, a TOML file, the environment, flags. Later ones win.
//!
//! In: the place of the file, a list of variables, `NAME=VALUE` flags. Out: a text per setting with
//! its origin, or every complaint at once. It must stay true that an unknown name is an error
//! wherever it stands, and that a secret's value is in no complaint.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value, ValueKind};

use super::catalogue::{self, SETTINGS};
use super::spelling::nearest;
use super::tables;
use super::values::size_text;

/// Prefix of our variables in the environment.
const PREFIX: &str = "RELAY_";
/// Suffix of a variable that names a file with the value in it.
const FILE_SUFFIX: &str = "_FILE";
/// A value's file holds one value; a device or a log named by mistake must not fill the memory.
const VALUE_FILE_BYTES_MAX: u64 = 64 << 10;
/// The one setting that may be a table in the file.
const COLUMNS: &str = "columns";
/// What is no setting: a table of tables, one for each outbox.
const TABLES: &str = "tables";
/// The variable that names the configuration file, as `--config` does.
pub const CONFIG_VARIABLE: &str = "RELAY_CONFIG";

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the configuration file.
    File(PathBuf),
    /// In that file, in the section of one table.
    Section(PathBuf, String),
    /// Nowhere: made from the name of that section.
    Derived(String),
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
            Self::Section(path, table) => write!(f, "{} [tables.{table}]", path.display()),
            Self::Derived(table) => write!(f, "the name of [tables.{table}]"),
            Self::Variable(name) => f.write_str(name),
            Self::VariableFile(name, path) => write!(f, "{name} ({})", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Everything that settings may be read from. It holds secrets, so there is no `Debug`.
#[derive(Clone, Default)]
pub struct Inputs {
    /// `--config`, or `RELAY_CONFIG`.
    pub file: Option<PathBuf>,
    /// The environment; names without our prefix are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set` and its likes: name, value, and how it was written.
    pub flags: Vec<(String, String, String)>,
    /// `--table`: the only one of several tables that is meant.
    pub table: Option<String>,
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
        Self { file, environment, flags, table: None }
    }

    /// The same for one of several tables.
    #[must_use]
    pub fn of_table(self, table: Option<String>) -> Self {
        Self { table, ..self }
    }
}

/// A text for each setting that is set, and where.
pub(super) type Texts = BTreeMap<&'static str, (String, Origin)>;

/// The texts that were found, and what was wrong. They hold secrets, so there is no `Debug`.
#[derive(Default)]
pub(super) struct Layers {
    pub texts: Texts,
    /// The same without flags, which may be of one table only.
    pub below_flags: Texts,
    /// What the sections `[tables.NAME]` say.
    pub sections: BTreeMap<String, Texts>,
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
        layers.below_flags.clone_from(&layers.texts);
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
                let reason = fs::File::open(path).err().map(|error| error.to_string());
                let reason = reason.unwrap_or_else(|| toml_reason(&error));
                self.complaints.push(format!("cannot read {}: {reason}", path.display()));
                return;
            }
        };
        for (name, value) in values {
            if name == TABLES {
                self.read_sections(path, value);
            } else if let Some((name, said)) =
                self.read_setting(&name, value, Origin::File(path.into()))
            {
                self.texts.insert(name, said);
            }
        }
    }

    fn read_sections(&mut self, path: &Path, tables: Value) {
        let ValueKind::Table(tables) = tables.kind else {
            let path = path.display();
            return self.complaints.push(format!("tables in {path}: {}", tables::EXPECTED));
        };
        for (table, section) in tables {
            let ValueKind::Table(section) = section.kind else {
                let path = path.display();
                self.complaints.push(format!("tables in {path}: {}", tables::EXPECTED));
                continue;
            };
            // What stands there by mistake may be a secret: it is not repeated.
            if !tables::is_name(&table) {
                let path = path.display();
                self.complaints.push(format!("a section [tables...] in {path}: {}", tables::NAMES));
                continue;
            }
            let origin = Origin::Section(path.to_owned(), table.clone());
            let read =
                |(name, value): (String, Value)| self.read_setting(&name, value, origin.clone());
            let texts: Texts = section.into_iter().filter_map(read).collect();
            self.sections.insert(table, texts);
        }
    }

    /// One value of the file, or a complaint.
    fn read_setting(
        &mut self,
        name: &str,
        value: Value,
        origin: Origin,
    ) -> Option<(&'static str, (String, Origin))> {
        let text = if let (COLUMNS, ValueKind::Table(table)) = (name, &value.kind) {
            list(table.clone())
        } else {
            scalar(value.kind)
        };
        match (catalogue::find(name), text) {
            (Some(setting), Some(text)) => return Some((setting.name, (text, origin))),
            (Some(_), None) => self
                .complaints
                .push(format!("{name} in {origin}: a table or a list, but one value is expected")),
            (None, _) => self.complaints.push(unknown(name, &origin)),
        }
        None
    }

    fn read_environment(&mut self, environment: &[(String, String)]) {
        // Compose files pass variables on that nobody has set: an empty one says nothing.
        let ours = environment
            .iter()
            .filter(|(name, value)| !value.is_empty() && name != CONFIG_VARIABLE)
            .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)));
        let mut of_services = Vec::new();
        for (variable, rest, value) in ours {
            if let Some(setting) = catalogue::find_variable(variable) {
                if self.is_from_environment(setting.name) {
                    self.complaints.push(format!(
                        "{variable} and {variable}{FILE_SUFFIX} are both set: keep one"
                    ));
                }
                self.set(setting.name, value.clone(), Origin::Variable(variable.clone()));
                continue;
            }
            let plain = variable.strip_suffix(FILE_SUFFIX);
            if let Some(setting) = plain.and_then(catalogue::find_variable) {
                self.read_variable_file(setting.name, variable, Path::new(value));
            } else if is_of_a_service(rest, value) {
                of_services.push(variable.as_str());
            } else {
                self.complaints.push(unknown_variable(variable, rest));
            }
        }
        if !of_services.is_empty() {
            self.complaints.push(format!(
                "{}: no settings; Kubernetes sets such variables for a Service whose name \
                 begins with `relay`: put `enableServiceLinks: false` into the pod's spec",
                of_services.join(", ")
            ));
        }
    }

    fn read_variable_file(&mut self, name: &str, variable: &str, path: &Path) {
        if self.is_from_environment(name) {
            let plain = variable.trim_end_matches(FILE_SUFFIX);
            self.complaints.push(format!("{plain} and {variable} are both set: keep one"));
            return;
        }
        match read_value(path) {
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

/// A table of names as the list that it stands for; none where a value is no name.
fn list(table: impl IntoIterator<Item = (String, Value)>) -> Option<String> {
    let pair = |(part, value): (String, Value)| Some(format!("{part} = {}", scalar(value.kind)?));
    let mut pairs = table.into_iter().map(pair).collect::<Option<Vec<String>>>()?;
    // As a map has no order: two runs are to show the same.
    pairs.sort();
    Some(pairs.join(", "))
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

/// What is wrong with a TOML file, without the lines it quotes: a password may stand there.
fn toml_reason(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let quoted = |line: &str| line.contains('|');
    let kept: Vec<&str> = text.lines().filter(|line| !quoted(line)).map(str::trim).collect();
    kept.join(" ").trim().to_owned()
}

/// The one value that a file holds.
fn read_value(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(VALUE_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= VALUE_FILE_BYTES_MAX) {
        return Ok(text);
    }
    let what =
        format!("it is larger than {} and cannot be one value", size_text(VALUE_FILE_BYTES_MAX));
    Err(io::Error::other(what))
}

/// Is this one of the variables that Kubernetes gives each pod for each Service?
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_of_a_service(rest: &str, value: &str) -> bool {
    let is_about_a_port =
        rest.contains("PORT_") && (rest.contains("_TCP") || rest.contains("_UDP"));
    rest.contains("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || is_about_a_port
        || is_service_address(value)
}

/// The form of a Service's `<NAME>_PORT`, which may hit the name of a setting.
pub(super) fn is_service_address(value: &str) -> bool {
    value.starts_with("tcp://") || value.starts_with("udp://")
}

fn unknown(name: &str, origin: &Origin) -> String {
    // `--set redis://:secret@h/?db=1` has the secret where the name should be.
    let may_be_shown = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(may_be_shown) {
        return format!(
            "{origin}: what stands before = is no setting's name; there are {}",
            names()
        );
    }
    match nearest(name) {
        Some(near) => format!("unknown setting {name:?} in {origin}; did you mean {near}?"),
        None => format!("unknown setting {name:?} in {origin}; there are {}", names()),
    }
}

fn unknown_variable(variable: &str, rest: &str) -> String {
    let (name, suffix) = match rest.strip_suffix(FILE_SUFFIX) {
        Some(name) => (name, FILE_SUFFIX),
        None => (rest, ""),
    };
    match nearest(name) {
        Some(near) => {
            let near = near.to_ascii_uppercase();
            format!("{variable}: unknown setting; did you mean {PREFIX}{near}{suffix}?")
        }
        None => format!("{variable}: unknown setting; there are {}", names()),
    }
}

fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}
