//! A network's configuration: whose plugins are called, in which order, with what. Pure.

use super::version::SpecVersion;
use serde_json::{Map, Value};

/// Objects of JSON.
pub(crate) type Fields = Map<String, Value>;

/// A network, as a file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// `name`, which tells it from others of the machine.
    pub name: String,
    /// The highest version that it and we speak.
    pub version: SpecVersion,
    /// CHECK must not be called.
    pub disable_check: bool,
    /// GC must not be called.
    pub disable_gc: bool,
    /// Called one after the other.
    pub plugins: Vec<PluginConf>,
    /// Plugins of the folder that is called after the network belong to it, too.
    pub(super) takes_folder: bool,
    owner: Option<&'static str>,
}

/// What one plugin is called with.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// `type`: the program's name.
    pub kind: String,
    /// All fields.
    pub fields: Fields,
}

/// Why something is no network.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No JSON.
    #[error("it is no JSON")]
    Json(#[from] serde_json::Error),
    /// A field is not as it must be.
    #[error("{field}: {message}")]
    Field {
        /// Where.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

fn wrong(field: impl Into<String>, message: impl Into<String>) -> ListError {
    ListError::Field { field: field.into(), message: message.into() }
}

/// Whether the specification allows it as the name of a network or container.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.bytes().all(inner)
}

/// Whether an interface can be called so.
pub(crate) fn is_interface(text: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !matches!(c, '/' | ':');
    (1..=15).contains(&text.len()) && !matches!(text, "." | "..") && text.chars().all(allowed)
}

impl NetworkList {
    /// The network in `text`: a list of plugins, or a single one (`.conf`).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, ListError> {
        let Value::Object(fields) = serde_json::from_slice(text)? else {
            return Err(wrong("the file", "it must hold an object"));
        };
        Self::of(fields)
    }

    pub(super) fn of(fields: Fields) -> Result<Self, ListError> {
        let name = string(&fields, "name")?.unwrap_or_default();
        if !is_name(name) {
            let message = format!(
                "{name:?} is no name: letters, digits, `_`, `.` and `-`, the first a letter or digit"
            );
            return Err(wrong("name", message));
        }
        let takes_folder = fields.contains_key("plugins") || fields.contains_key("loadOnlyInlinedPlugins");
        let takes_folder = takes_folder && !flag(&fields, "loadOnlyInlinedPlugins")?;
        let mut list = Self {
            name: name.to_owned(),
            version: version(&fields)?,
            disable_check: flag(&fields, "disableCheck")?,
            disable_gc: flag(&fields, "disableGC")?,
            plugins: Vec::new(),
            takes_folder,
            owner: None,
        };
        list.plugins = match fields.get("plugins") {
            Some(Value::Array(plugins)) => {
                let plugins = plugins.iter().enumerate();
                plugins
                    .map(|(at, plugin)| PluginConf::of(plugin, &format!("plugins[{at}]")))
                    .collect::<Result<_, _>>()?
            }
            Some(_) => return Err(wrong("plugins", "it must be a list")),
            None if takes_folder => Vec::new(),
            None => vec![PluginConf::of(&Value::Object(fields.clone()), "the file")?],
        };
        if list.plugins.is_empty() && !list.takes_folder {
            return Err(wrong("plugins", "there is none"));
        }
        list.owner = owner(&fields, &list);
        Ok(list)
    }

    /// The program that keeps this network for its own containers, if it says so.
    #[must_use]
    pub const fn owner(&self) -> Option<&'static str> {
        self.owner
    }

    /// Whether a plugin takes such arguments.
    #[must_use]
    pub fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.has(capability))
    }

    /// As it is written down, for whoever has to call the same plugins again.
    pub(super) fn text(&self) -> Vec<u8> {
        let plugins: Vec<_> =
            self.plugins.iter().map(|plugin| Value::Object(plugin.fields.clone())).collect();
        let list = serde_json::json!({
            "cniVersion": self.version.name(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        });
        list.to_string().into_bytes()
    }
}

impl PluginConf {
    pub(super) fn of(value: &Value, at: &str) -> Result<Self, ListError> {
        let Value::Object(fields) = value else { return Err(wrong(at, "it must be an object")) };
        let inner = |error: ListError| match error {
            ListError::Field { field, message } => wrong(format!("{at}.{field}"), message),
            ListError::Json(error) => ListError::Json(error),
        };
        let kind = string(fields, "type").map_err(inner)?.unwrap_or_default();
        if kind.is_empty() {
            return Err(wrong(format!("{at}.type"), "the name of the plugin is missing"));
        }
        if matches!(kind, "." | "..") || kind.contains(['/', '\\', '\0']) {
            return Err(wrong(format!("{at}.type"), format!("{kind:?} is no name of a program")));
        }
        Ok(Self { kind: kind.to_owned(), fields: fields.clone() })
    }

    /// Whether it takes such arguments.
    pub(super) fn has(&self, capability: &str) -> bool {
        self.fields.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    }
}

fn string<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>, ListError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "it must be a text")),
    }
}

/// Some write the word as a text.
fn flag(fields: &Fields, name: &str) -> Result<bool, ListError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(_) => Err(wrong(name, "it must be true or false")),
    }
}

/// The highest that is known here.
fn version(fields: &Fields) -> Result<SpecVersion, ListError> {
    let own = string(fields, "cniVersion")?;
    let others = match fields.get("cniVersions") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(wrong("cniVersions", "it must be a list of texts")),
    };
    // Who names no version at all means the first.
    let own = if others.is_empty() { own.or(Some("")) } else { own };
    let known = own.into_iter().chain(others).filter_map(SpecVersion::parse).max();
    known.ok_or_else(|| {
        let names = SpecVersion::names();
        wrong("cniVersion", format!("{:?} is not known: {names} are", own.unwrap_or_default()))
    })
}

/// Whose it is, of those that put the networks of their own containers into the common folder.
fn owner(fields: &Fields, list: &NetworkList) -> Option<&'static str> {
    let of_podman = |plugin: &PluginConf| {
        let bridge = plugin.fields.get("bridge").and_then(Value::as_str).unwrap_or_default();
        bridge.starts_with("cni-podman")
    };
    let labelled = fields.get("args").and_then(|args| args.get("podman_labels")).is_some();
    if list.name == "podman" || labelled || list.plugins.iter().any(of_podman) {
        return Some("podman");
    }
    ["nerdctlID", "nerdctlLabels"].iter().any(|key| fields.contains_key(*key)).then_some("nerdctl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<NetworkList, String> {
        NetworkList::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_and_a_single_plugin_are_networks() {
        let list = parse(
            r#"{"cniVersion": "1.0.0", "cniVersions": ["1.1.0", "9.0.0"], "name": "net", "disableCheck": "true",
                "plugins": [{"type": "bridge", "x": 1}, {"type": "portmap", "capabilities": {"portMappings": true}}]}"#,
        )
        .unwrap();
        assert_eq!((list.version, list.disable_check, list.plugins.len()), (SpecVersion::V1_1_0, true, 2));
        assert!(list.has_capability("portMappings") && !list.has_capability("bandwidth"));
        let again = NetworkList::parse(&list.text()).unwrap();
        assert_eq!((again.version, again.plugins), (list.version, list.plugins));
        let single = parse(r#"{"name": "one", "type": "ptp"}"#).unwrap();
        assert_eq!((single.version, single.plugins[0].kind.as_str()), (SpecVersion::V0_1_0, "ptp"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("[]", "the file: it must hold an object"),
            ("{", "it is no JSON"),
            (r#"{"name": "a b", "type": "x"}"#, "name: \"a b\" is no name"),
            (r#"{"name": "a"}"#, "the file.type: the name of the plugin is missing"),
            (r#"{"name": "a", "type": "../x"}"#, "the file.type: \"../x\" is no name of a program"),
            (r#"{"name": "a", "loadOnlyInlinedPlugins": true, "plugins": []}"#, "plugins: there is none"),
            (
                r#"{"name": "a", "plugins": [{"type": "b"}, {}]}"#,
                "plugins[1].type: the name of the plugin is missing",
            ),
            (r#"{"name": "a", "plugins": {}}"#, "plugins: it must be a list"),
            (r#"{"name": "a", "type": "b", "disableGC": 1}"#, "disableGC: it must be true or false"),
            (
                r#"{"name": "a", "type": "b", "cniVersion": "2.0.0"}"#,
                "cniVersion: \"2.0.0\" is not known: 0.1.0, ",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn networks_of_other_programs_are_known_by_their_traits() {
        let owner = |text: &str| parse(text).unwrap().owner();
        assert_eq!(owner(r#"{"name": "podman", "plugins": [{"type": "bridge"}]}"#), Some("podman"));
        assert_eq!(
            owner(r#"{"name": "x", "args": {"podman_labels": {}}, "plugins": [{"type": "a"}]}"#),
            Some("podman")
        );
        assert_eq!(
            owner(r#"{"name": "x", "plugins": [{"type": "bridge", "bridge": "cni-podman3"}]}"#),
            Some("podman")
        );
        assert_eq!(
            owner(r#"{"name": "bridge", "nerdctlID": "0", "plugins": [{"type": "bridge"}]}"#),
            Some("nerdctl")
        );
        assert_eq!(owner(r#"{"name": "crio", "plugins": [{"type": "bridge"}]}"#), None);
    }

    #[test]
    fn names_are_those_of_the_specification() {
        assert!(is_name("a-b_c.9") && is_name("5a0c") && !is_name("") && !is_name("-a") && !is_name("a/b"));
        assert!(
            is_interface("eth0")
                && !is_interface("")
                && !is_interface("sixteen-bytes-ab")
                && !is_interface("a:b")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NetworkList::parse(&bytes);
        }

        #[test]
        fn no_object_makes_it_panic(
            name in ".{0,8}", key in "(type|plugins|cniVersion|cniVersions|disableCheck|args|bridge)",
            value in r#"("x"|\[1\]|\{\}|\[\{"type":"b"\}\]|null|true|7)"#,
        ) {
            let name = serde_json::to_string(&name).unwrap();
            let _ = parse(&format!("{{\"name\": {name}, \"{key}\": {value}}}"));
        }
    }
}
