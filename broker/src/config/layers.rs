//! Fills a configuration: defaults < file < environment < flags. Every fault is gathered with its place; nothing stops
//! at the first one.

use std::path::PathBuf;

use toml_edit::{Document, Item, Table};

use super::table::Section;
use super::value::Raw;
use super::{Config, Fault, Faults, Listener, Origin};

/// Variables begin with this, and have `__` between section and option.
const VARIABLE_PREFIX: &str = "SHARDMQ_";

/// What a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The whole environment.
    pub variables: Vec<(String, String)>,
    pub assignments: Vec<Assignment>,
    /// `KIND://ADDRESS` each; if there are any, they are all the listeners.
    pub listeners: Vec<String>,
}

/// A flag that sets an option.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// As it is named in faults and origins.
    pub flag: String,
    /// `section.option`
    pub key: String,
    pub value: String,
}

/// The valid configuration that the sources give, or all that is wrong with them.
pub fn load(sources: &Sources) -> Result<Config, Faults> {
    let mut loader = Loader::default();
    loader.read_file(sources);
    loader.choose_listeners(&sources.listeners);
    loader.read_variables(&sources.variables);
    loader.read_assignments(&sources.assignments);
    let Loader { config, mut faults } = loader;
    config.validate(&mut faults);
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

#[derive(Default)]
struct Loader {
    config: Config,
    faults: Vec<Fault>,
}

impl Loader {
    fn fault(&mut self, origin: &Origin, message: impl Into<String>) {
        self.faults.push(Fault { origin: origin.clone(), message: message.into() });
    }

    // ---- the file ----

    fn read_file(&mut self, sources: &Sources) {
        let Some(path) = &sources.file else { return };
        let name = path.display().to_string();
        let at = |line| Origin::File { path: name.clone(), line };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.fault(&Origin::Flag(format!("--config {name}")), error.to_string()),
        };
        let line_of = |offset: usize| 1 + text[..offset].matches('\n').count();
        let document = match Document::parse(text.as_str()) {
            Ok(document) => document,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(span.start));
                return self.fault(&at(line), error.message());
            }
        };
        let place = |table: &Table, key: &str| {
            let span = table.key(key).and_then(|key| key.span());
            at(span.map_or(1, |span| line_of(span.start)))
        };
        for (name, item) in document.as_table() {
            let origin = place(document.as_table(), name);
            match item {
                Item::ArrayOfTables(tables) if name == "listener" => {
                    for table in tables {
                        let line = table.span().map_or(1, |span| line_of(span.start));
                        self.read_listener(table, &at(line), |key| place(table, key));
                    }
                }
                _ if name == "listener" => {
                    self.fault(&origin, "a listener is a table of a list: [[listener]]")
                }
                Item::Table(table) if self.config.section_mut(name).is_some() => {
                    for (option, item) in table {
                        self.assign(&[name, option], &raw(item), &place(table, option));
                    }
                }
                _ => {
                    let message = match self.config.section_mut(name) {
                        Some(_) => format!("`{name}` is a section: [{name}]"),
                        None => unknown_section(name),
                    };
                    self.fault(&origin, message);
                }
            }
        }
    }

    fn read_listener(&mut self, table: &Table, origin: &Origin, place: impl Fn(&str) -> Origin) {
        let mut listener = Listener::default();
        if let Some(name) = table.get("name").and_then(Item::as_str) {
            listener.name = name.to_owned();
        }
        let name = listener.name.clone();
        if self.config.listeners.iter().any(|other| other.name == name) {
            return self.fault(origin, format!("there are two listeners of the name `{name}`"));
        }
        self.config.listeners.push(listener);
        for (option, item) in table {
            self.assign(&["listener", &name, option], &raw(item), &place(option));
        }
    }

    // ---- flags and variables ----

    fn choose_listeners(&mut self, flags: &[String]) {
        if !flags.is_empty() {
            self.config.listeners.clear();
            self.config.origins.retain(|key, _| !key.starts_with("listener."));
            flags.iter().for_each(|flag| self.add_listener(flag));
        } else if self.config.listeners.is_empty() {
            self.config.listeners.push(Listener::default());
        }
    }

    fn add_listener(&mut self, text: &str) {
        let origin = Origin::Flag(format!("--listener {text}"));
        let Some((kind, address)) = text.split_once("://") else {
            return self.fault(&origin, "expected KIND://ADDRESS:PORT such as tcp://127.0.0.1:1883");
        };
        let mut listener = Listener::default();
        for (option, value) in [("kind", kind), ("address", address)] {
            if let Err(expected) = listener.set(option, &Raw::Untyped(value.to_owned())) {
                return self.fault(&origin, format!("{option}: {expected}"));
            }
        }
        let same_kind = self.config.listeners.iter().filter(|other| other.kind == listener.kind).count();
        listener.name = if same_kind == 0 { kind.to_owned() } else { format!("{kind}-{}", same_kind + 1) };
        for option in ["name", "kind", "address"] {
            self.config.origins.insert(format!("listener.{}.{option}", listener.name), origin.clone());
        }
        self.config.listeners.push(listener);
    }

    fn read_variables(&mut self, variables: &[(String, String)]) {
        let mut variables: Vec<_> = variables.iter().collect();
        variables.sort();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(VARIABLE_PREFIX).filter(|key| key.contains("__")) else {
                continue;
            };
            let key = key.to_lowercase();
            let mut path: Vec<&str> = key.split("__").collect();
            // `-` cannot stand in a variable's name.
            let listener = match path[..] {
                ["listener", name, _] => {
                    self.config.listeners.iter().find(|l| l.name.replace('-', "_") == name)
                }
                _ => None,
            };
            let listener_name = listener.map(|listener| listener.name.clone());
            if let Some(name) = &listener_name {
                path[1] = name;
            }
            self.assign(&path, &Raw::Untyped(value.clone()), &Origin::Variable(name.clone()));
        }
    }

    fn read_assignments(&mut self, assignments: &[Assignment]) {
        for Assignment { flag, key, value } in assignments {
            let path: Vec<&str> = key.split('.').collect();
            self.assign(&path, &Raw::Untyped(value.clone()), &Origin::Flag(flag.clone()));
        }
    }

    // ---- one option ----

    fn assign(&mut self, path: &[&str], raw: &Raw, origin: &Origin) {
        let outcome = match *path {
            ["listener", option] => {
                let names: Vec<String> =
                    self.config.listeners.iter().map(|listener| listener.name.clone()).collect();
                return names.iter().for_each(|name| self.assign(&["listener", name, option], raw, origin));
            }
            ["listener", _, "name"] if !matches!(origin, Origin::File { .. }) => {
                Err("a listener gets its name in the file only".to_owned())
            }
            ["listener", name, option] => {
                match self.config.listeners.iter_mut().find(|listener| listener.name == name) {
                    Some(listener) => set(listener, option, raw),
                    None => {
                        let names = self.config.listeners.iter().map(|listener| listener.name.as_str());
                        Err(format!("there is no listener `{name}`{}", suggestion(name, names)))
                    }
                }
            }
            [section, option] => match self.config.section_mut(section) {
                Some(section) => set(section, option, raw),
                None => Err(unknown_section(section)),
            },
            _ => Err(format!("`{}` is no option: expected section.option", path.join("."))),
        };
        match outcome {
            Ok(()) => drop(self.config.origins.insert(path.join("."), origin.clone())),
            Err(message) => self.fault(origin, message),
        }
    }
}

fn set(section: &mut dyn Section, option: &str, raw: &Raw) -> Result<(), String> {
    let key = format!("{}.{option}", section.name());
    let options = section.options();
    if options.iter().any(|known| known.name == option) {
        return section.set(option, raw).map_err(|expected| format!("`{key}`: {expected}"));
    }
    let has_option = |section: &&dyn Section| section.options().iter().any(|known| known.name == option);
    let hint = match Config::default().sections().into_iter().find(has_option) {
        Some(other) => format!("; did you mean `{}.{option}`?", other.name()),
        None => suggestion(option, options.iter().map(|known| known.name)),
    };
    Err(format!("unknown option `{key}`{hint}"))
}

fn unknown_section(name: &str) -> String {
    let config = Config::default();
    let known = config.sections().into_iter().map(|section| section.name()).chain(["listener"]);
    format!("unknown section `{name}`{}", suggestion(name, known))
}

/// The known name that is nearest to a wrong one.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(name, known));
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

fn raw(item: &Item) -> Raw {
    match item {
        Item::Value(toml_edit::Value::String(text)) => Raw::Text(text.value().clone()),
        Item::Value(toml_edit::Value::Integer(number)) => Raw::Integer(*number.value()),
        Item::Value(toml_edit::Value::Boolean(value)) => Raw::Bool(*value.value()),
        other => Raw::Other(other.type_name()),
    }
}
