//! Which object a Kubernetes API path means. Pure.

use manifests::Kind;

/// What a path under `/api` or `/apis` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The kind that the plural means.
    pub(crate) kind: Kind,
    /// Set for `/namespaces/<namespace>/…`.
    pub(crate) namespace: Option<String>,
    /// Set for one object.
    pub(crate) name: Option<String>,
    /// `log`, `status`…
    pub(crate) subresource: Option<String>,
}

/// The target of `path`, or `None` if it names nothing that is served.
/// Source: Kubernetes API concepts, "Resource URIs".
pub(crate) fn parse(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (api_version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // `/namespaces/<name>` alone is the Namespace itself.
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
            (Some(*namespace), rest)
        }
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    let kind = Kind::ALL.into_iter().find(|k| k.api_version() == api_version && k.plural() == plural)?;
    let owned = |part: Option<&str>| part.map(str::to_owned);
    let target =
        Target { kind, namespace: owned(namespace), name: owned(name), subresource: owned(subresource) };
    let complete = if kind.is_namespaced() {
        target.name.is_none() || target.namespace.is_some()
    } else {
        target.namespace.is_none()
    };
    complete.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: Kind, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> Target {
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Target { kind, namespace: owned(namespace), name: owned(name), subresource: owned(subresource) }
    }

    #[test]
    fn every_form_of_path_is_understood() {
        let table = [
            ("/api/v1/pods", Some(target(Kind::Pod, None, None, None))),
            ("/api/v1/namespaces", Some(target(Kind::Namespace, None, None, None))),
            ("/api/v1/namespaces/web", Some(target(Kind::Namespace, None, Some("web"), None))),
            ("/api/v1/namespaces/web/pods", Some(target(Kind::Pod, Some("web"), None, None))),
            (
                "/api/v1/namespaces/web/pods/a/log",
                Some(target(Kind::Pod, Some("web"), Some("a"), Some("log"))),
            ),
            (
                "/apis/apps/v1/namespaces/web/deployments/a",
                Some(target(Kind::Deployment, Some("web"), Some("a"), None)),
            ),
            (
                "/apis/evenkeel.dev/v1alpha1/revisions/site",
                Some(target(Kind::Revision, None, Some("site"), None)),
            ),
            ("/apis/apps/v1/pods", None),
            ("/api/v1/pods/a", None),
            ("/api/v1/namespaces/web/nodes", None),
            ("/apis/apps/v2/deployments", None),
            ("/", None),
        ];
        for (path, expected) in table {
            assert_eq!(parse(path), expected, "{path}");
        }
    }
}
