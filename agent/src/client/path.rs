//! Kubernetes' API paths and query strings.

use manifests::Kind;
use std::fmt::Write as _;

/// Where objects of a kind are: all of them, a namespace's, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl ObjectPath {
    /// All objects of `kind`; of `namespace` if given and the kind has namespaces.
    pub(crate) fn all(kind: Kind, namespace: Option<&str>) -> Self {
        let namespace = namespace.filter(|_| kind.is_namespaced()).map(str::to_owned);
        Self { kind, namespace, name: String::new() }
    }

    /// One object.
    pub(crate) fn one(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::all(kind, Some(namespace)) }
    }

    /// The kind.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The path of the collection.
    pub(super) fn collection(&self) -> String {
        let version = self.kind.api_version();
        let mut path =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(&encode(namespace));
        }
        path.push('/');
        path.push_str(self.kind.plural());
        path
    }

    /// The path of the object.
    pub(super) fn object(&self) -> String {
        format!("{}/{}", self.collection(), encode(&self.name))
    }
}

/// A query string in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(String);

impl Query {
    /// Adds `name=value`, escaped.
    pub(crate) fn push(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encode(value));
        self
    }

    /// `path` with this query.
    pub(super) fn on(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// Which objects of a collection are meant. Empty strings select everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selectors {
    /// `app=web,tier!=cache`.
    pub(crate) labels: String,
    /// `status.phase=Running`.
    pub(crate) fields: String,
}

impl Selectors {
    /// Only the object named `name`.
    pub(crate) fn named(name: &str) -> Self {
        Self { fields: format!("metadata.name={name}"), ..Self::default() }
    }

    pub(super) fn add_to(&self, query: &mut Query) {
        if !self.labels.is_empty() {
            query.push("labelSelector", &self.labels);
        }
        if !self.fields.is_empty() {
            query.push("fieldSelector", &self.fields);
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let path = |kind, ns, name| ObjectPath::one(kind, ns, name).object();
        assert_eq!(path(Kind::Pod, "default", "web"), "/api/v1/namespaces/default/pods/web");
        assert_eq!(path(Kind::Deployment, "a", "b"), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(path(Kind::Job, "a", "b"), "/apis/batch/v1/namespaces/a/jobs/b");
        assert_eq!(path(Kind::Node, "ignored", "n1"), "/api/v1/nodes/n1");
        assert_eq!(path(Kind::Revision, "", "infra"), "/apis/evenkeel.dev/v1alpha1/revisions/infra");
        assert_eq!(ObjectPath::all(Kind::Pod, None).collection(), "/api/v1/pods");
        assert_eq!(path(Kind::Pod, "default", "../x?"), "/api/v1/namespaces/default/pods/..%2Fx%3F");
    }

    #[test]
    fn selectors_are_escaped() {
        let mut query = Query::default();
        Selectors { labels: "app in (a,b)".into(), fields: "status.phase!=Running".into() }
            .add_to(&mut query);
        assert_eq!(
            query.on("/x"),
            "/x?labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=status.phase%21%3DRunning"
        );
    }
}
