//! What a plugin is asked: its environment and what it reads. Pure.

use super::list::{Fields, NetworkList, PluginConf};
use super::version::SpecVersion;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

/// What a plugin shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    /// `CNI_COMMAND`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The command of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];
        all.into_iter().find(|command| command.word() == word)
    }
}

/// What differs between the attachments of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    pub(super) container: String,
    /// Nothing if it is gone.
    pub(super) netns: String,
    pub(super) interface: String,
    pub(super) arguments: Vec<(String, String)>,
    /// By capability.
    pub(super) capabilities: Fields,
}

/// Variables beside those that the agent has.
pub(super) fn environment(
    command: Command,
    parameters: Option<&Parameters>,
    folders: &[PathBuf],
) -> Vec<(&'static str, OsString)> {
    let path = std::env::join_paths(folders).unwrap_or_default();
    let mut environment = vec![("CNI_COMMAND", command.word().into()), ("CNI_PATH", path)];
    if let Some(Parameters { container, netns, interface, arguments, .. }) = parameters {
        let arguments: Vec<_> = arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
        environment.extend([
            ("CNI_CONTAINERID", container.into()),
            ("CNI_NETNS", netns.into()),
            ("CNI_IFNAME", interface.into()),
            ("CNI_ARGS", arguments.join(";").into()),
        ]);
    }
    environment
}

/// What the plugin reads about an attachment.
pub(super) fn configuration(
    list: &NetworkList,
    plugin: &PluginConf,
    parameters: &Parameters,
    previous: Option<&Value>,
) -> Value {
    let mut fields = common(list, plugin);
    let wanted = parameters.capabilities.iter().filter(|(capability, _)| plugin.has(capability));
    let wanted: Fields = wanted.map(|(capability, value)| (capability.clone(), value.clone())).collect();
    if !wanted.is_empty() {
        fields.insert("runtimeConfig".into(), Value::Object(wanted));
    }
    if let Some(previous) = previous {
        fields.insert("prevResult".into(), previous.clone());
    }
    Value::Object(fields)
}

/// What the plugin reads about none.
pub(super) fn bare(list: &NetworkList, plugin: &PluginConf) -> Value {
    Value::Object(common(list, plugin))
}

/// The same with the attachments (container, interface) that are all there are.
pub(super) fn with_attachments(list: &NetworkList, plugin: &PluginConf, valid: &[(String, String)]) -> Value {
    let mut fields = common(list, plugin);
    let valid: Vec<_> = valid
        .iter()
        .map(|(container, interface)| json!({"containerID": container, "ifname": interface}))
        .collect();
    fields.insert("cni.dev/valid-attachments".into(), Value::Array(valid));
    Value::Object(fields)
}

fn common(list: &NetworkList, plugin: &PluginConf) -> Fields {
    let mut fields = plugin.fields.clone();
    fields.retain(|key, _| {
        !key.starts_with("cni.dev/")
            && !matches!(key.as_str(), "capabilities" | "runtimeConfig" | "prevResult" | "cniVersions")
    });
    fields.insert("cniVersion".into(), list.version.name().into());
    fields.insert("name".into(), list.name.clone().into());
    fields
}

/// Whether that version has the command at all.
pub(super) fn has(version: SpecVersion, command: Command) -> bool {
    match command {
        Command::Add | Command::Del | Command::Version => true,
        Command::Check => version >= SpecVersion::V0_4_0,
        Command::Gc | Command::Status => version >= SpecVersion::V1_1_0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_reads_its_fields_and_what_is_about_this_attachment() {
        let list = br#"{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "portmap", "snat": true,
            "cni.dev/x": 1, "runtimeConfig": {"old": 1}, "capabilities": {"portMappings": true, "dns": false}}]}"#;
        let list = NetworkList::parse(list).unwrap();
        let capabilities = json!({"portMappings": [{"hostPort": 80}], "dns": {}, "bandwidth": {}});
        let parameters = Parameters {
            container: "c".into(),
            netns: "/run/netns/c".into(),
            interface: "eth0".into(),
            arguments: vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), "web".into())],
            capabilities: capabilities.as_object().unwrap().clone(),
        };
        let read = configuration(&list, &list.plugins[0], &parameters, Some(&json!({"ips": []})));
        let wanted = json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap", "snat": true,
            "runtimeConfig": {"portMappings": [{"hostPort": 80}]}, "prevResult": {"ips": []}});
        assert_eq!(read, wanted);
        let environment = environment(Command::Add, Some(&parameters), &["/a".into(), "/b".into()]);
        let find =
            |name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(find("CNI_ARGS"), Some("IgnoreUnknown=1;K8S_POD_NAME=web"));
        assert_eq!(
            (find("CNI_PATH"), find("CNI_COMMAND"), find("CNI_IFNAME")),
            (Some("/a:/b"), Some("ADD"), Some("eth0"))
        );
        let valid = with_attachments(&list, &list.plugins[0], &[("c".into(), "eth0".into())]);
        assert_eq!(valid["cni.dev/valid-attachments"], json!([{"containerID": "c", "ifname": "eth0"}]));
    }
}
