//! The taints that a node begins with.

use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint, as a Node object has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaintConfiguration {
    /// A qualified name.
    pub key: String,
    /// As a label's value.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

pub(super) fn check(taints: &[TaintConfiguration], report: &mut Report<'_>) {
    let all = Path::ROOT.field("registerWithTaints");
    for (number, taint) in taints.iter().enumerate() {
        let at = all.index(number);
        report.name(&at.field("key"), &taint.key, names::qualified);
        report.name(&at.field("value"), &taint.value, names::label_value);
        if !EFFECTS.contains(&taint.effect.as_str()) {
            let help = Some(format!("use {}", EFFECTS.join(", ")));
            report.error_with(&at.field("effect"), "bad-value", "this is no effect of a taint", help);
        }
    }
}
