//! Label selectors, and whether a template's labels satisfy them.

use super::metadata;
use crate::names;
use crate::path::Path;
use crate::report::Report;
use crate::selector;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub(super) fn check(selector: &LabelSelector, at: &Path<'_>, report: &mut Report<'_>) {
    metadata::labels(selector.match_labels.as_ref(), &at.field("matchLabels"), report);
    let list = at.field("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        report.name(&at.field("key"), &expression.key, names::qualified);
        let operators = ["In", "NotIn", "Exists", "DoesNotExist"];
        report.one_of(&at.field("operator"), Some(&expression.operator), &operators);
        let values = expression.values.as_deref().unwrap_or_default();
        match (expression.operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", true) => {
                report.error(&at, "missing-field", format!("`{}` needs values", expression.operator));
            }
            ("Exists" | "DoesNotExist", false) => {
                let message = format!("`{}` takes no values", expression.operator);
                report.error(&at.field("values"), "not-allowed", message);
            }
            _ => {}
        }
    }
}

/// The selector of what makes pods: it selects something, and the pods it makes.
pub(super) fn of_template(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    let path = at.field("selector");
    check(selector, &path, report);
    if selector::is_empty(selector) {
        let message = "the selector is empty, so it would select every pod";
        return report.error(&path, "empty-selector", message);
    }
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    if selector::matches(selector, labels) {
        return;
    }
    let wanted: Vec<String> = selector
        .match_labels
        .iter()
        .flatten()
        .filter(|(key, value)| labels.and_then(|l| l.get(*key)) != Some(*value))
        .map(|(key, value)| format!("`{key}: {value}`"))
        .collect();
    let help = (!wanted.is_empty()).then(|| format!("give the template the label {}", wanted.join(" and ")));
    let message = "the template's labels do not match the selector";
    report.error_with(&at.field("template.metadata.labels"), "selector-mismatch", message, help);
}
