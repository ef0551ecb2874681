//! Roles and who has them.

use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

pub(super) fn rules(rules: Option<&[PolicyRule]>, cluster: bool, report: &mut Report<'_>) {
    let list = Path::ROOT.field("rules");
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        if rule.verbs.is_empty() {
            report.error(&at.field("verbs"), "missing-field", "a rule needs at least one verb");
        }
        let urls = rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty());
        let resources = rule.resources.as_ref().is_some_and(|resources| !resources.is_empty());
        match (urls, resources) {
            (true, _) if !cluster => {
                let message = "a Role of a namespace cannot name non-resource URLs";
                report.error(&at.field("nonResourceURLs"), "not-allowed", message);
            }
            (true, true) => {
                report.error(&at, "not-allowed", "a rule is about resources or about URLs, not both");
            }
            (false, false) => report.error(&at, "missing-field", "field `resources` is missing"),
            (false, true) if rule.api_groups.as_ref().is_none_or(Vec::is_empty) => {
                let help = Some("write `apiGroups: [\"\"]` for the core group".to_owned());
                report.error_with(&at, "missing-field", "field `apiGroups` is missing", help);
            }
            (true | false, _) => {}
        }
    }
}

pub(super) fn binding(role: &RoleRef, subjects: Option<&[Subject]>, roles: &[&str], report: &mut Report<'_>) {
    let at = Path::ROOT.field("roleRef");
    report.one_of(&at.field("kind"), Some(&role.kind), roles);
    report.one_of(&at.field("apiGroup"), role.api_group.as_deref(), &["rbac.authorization.k8s.io", ""]);
    report.not_empty(&at.field("name"), &role.name);
    let list = Path::ROOT.field("subjects");
    for (index, subject) in subjects.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        report.one_of(&at.field("kind"), Some(&subject.kind), &["ServiceAccount", "User", "Group"]);
        report.not_empty(&at.field("name"), &subject.name);
        let account = subject.kind == "ServiceAccount";
        if account && subject.namespace.as_deref().unwrap_or_default().is_empty() {
            report.error(&at, "missing-field", "field `namespace` is missing");
        }
    }
}
