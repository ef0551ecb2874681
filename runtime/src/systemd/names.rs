//! systemd's names for cgroups. Source: systemd.slice(5), systemd.unit(5).

/// Where a pod's group is once systemd has made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `keel-burstable.slice`.
    pub(crate) slice: String,
    /// `keel-pod1234.scope`.
    pub(crate) scope: String,
    /// Below the hierarchy's root: `keel.slice/keel-burstable.slice/keel-pod1234.scope`.
    pub(crate) group: String,
}

impl Place {
    /// The place for the group `keel/burstable/pod1234` of the node whose groups are below
    /// `root`.
    pub(crate) fn of(root: &str, group: &str) -> Self {
        let (parent, leaf) = group.rsplit_once('/').unwrap_or(("", group));
        let scope = format!("{}-{leaf}.scope", joined(root));
        let group = format!("{}/{scope}", slice_path(parent));
        Self { slice: format!("{}.slice", joined(parent)), scope, group }
    }
}

/// The pod whose scope is called so, if it is one of the node whose groups are below `root`.
pub(crate) fn pod_of_scope<'a>(root: &str, scope: &'a str) -> Option<&'a str> {
    scope.strip_prefix(&joined(root))?.strip_prefix("-pod")?.strip_suffix(".scope")
}

/// Where the slice for the group `keel/burstable` is below the hierarchy's root:
/// `keel.slice/keel-burstable.slice`.
pub(crate) fn slice_path(group: &str) -> String {
    let mut name = String::new();
    let mut path = Vec::new();
    for part in components(group) {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part);
        path.push(format!("{name}.slice"));
    }
    path.join("/")
}

fn joined(group: &str) -> String {
    components(group).collect::<Vec<_>>().join("-")
}

fn components(group: &str) -> impl Iterator<Item = String> {
    group.split('/').filter(|part| !part.is_empty()).map(escape)
}

/// One component of a unit's name; `-` would begin a new level of slices.
fn escape(component: &str) -> String {
    component
        .chars()
        .map(|c| match c {
            '-' => "\\x2d".to_owned(),
            c if c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.') => c.to_string(),
            c => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_places_that_systemd_gives_them() {
        let place = Place::of("keel", "keel/pod12-34");
        assert_eq!((place.slice.as_str(), place.scope.as_str()), ("keel.slice", "keel-pod12-34.scope"));
        assert_eq!(place.group, "keel.slice/keel-pod12-34.scope");
        let place = Place::of("keel", "keel/burstable/pod1");
        assert_eq!((place.slice.as_str(), place.scope.as_str()), ("keel-burstable.slice", "keel-pod1.scope"));
        assert_eq!(place.group, "keel.slice/keel-burstable.slice/keel-pod1.scope");
        let place = Place::of("my-keel/x", "my-keel/x/pod1");
        assert_eq!(place.scope, "my\\x2dkeel-x-pod1.scope");
        assert_eq!(place.group, "my\\x2dkeel.slice/my\\x2dkeel-x.slice/my\\x2dkeel-x-pod1.scope");
    }

    #[test]
    fn a_scope_names_its_pod() {
        assert_eq!(pod_of_scope("keel", "keel-pod12-34.scope"), Some("12-34"));
        assert_eq!(pod_of_scope("keel", "keel-other.scope"), None);
        assert_eq!(pod_of_scope("keel", "keel2-pod1.scope"), None);
    }
}
