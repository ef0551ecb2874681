//! Other OCI runtimes than the one that is built in.

use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// Another OCI runtime, as `handler` of a RuntimeClass names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeConfiguration {
    /// RFC 1123 label; the `handler` of RuntimeClasses.
    pub name: String,
    /// The program, an absolute path.
    pub path: PathBuf,
    /// The folder in which it keeps what it knows of its containers; each pod's own if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Words for it before its command. It must leave cgroups alone: `--cgroup-manager=disabled`
    /// of crun, which is told so by itself.
    #[serde(default)]
    pub arguments: Vec<String>,
}

pub(super) fn check(runtimes: &[RuntimeConfiguration], at: &Path<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, runtime) in runtimes.iter().enumerate() {
        let at = at.index(index);
        report.name(&at.field("name"), &runtime.name, names::label);
        if let Some(first) = seen.insert(&runtime.name, index) {
            let message = format!("runtime `{}` is here a second time", runtime.name);
            let help = Some(format!("it is first at runtimes[{first}]"));
            report.error_with(&at.field("name"), "duplicate-name", message, help);
        }
        for (field, path) in [("path", Some(&runtime.path)), ("root", runtime.root.as_ref())] {
            if path.is_some_and(|path| !path.is_absolute()) {
                report.error(&at.field(field), "bad-path", "this must be an absolute path");
            }
        }
    }
}
