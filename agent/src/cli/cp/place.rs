//! Where files are: here, or in a pod.

use std::path::PathBuf;
use std::str::FromStr;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Here(PathBuf),
    /// In a container.
    Inside { namespace: Option<String>, pod: String, path: PathBuf },
}

impl FromStr for Place {
    type Err = String;

    /// A colon after a slash belongs to a path: `./a:b` is here.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((pod, path)) = text.split_once(':').filter(|(pod, _)| !pod.starts_with(['.', '/'])) else {
            return if text.is_empty() {
                Err("a path is missing".into())
            } else {
                Ok(Self::Here(text.into()))
            };
        };
        let (namespace, pod) = match pod.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, pod),
        };
        if pod.is_empty() || path.is_empty() || pod.contains('/') || namespace.as_deref() == Some("") {
            return Err(format!("{text:?} is no [NAMESPACE/]POD:PATH"));
        }
        Ok(Self::Inside { namespace, pod: pod.to_owned(), path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_in_kubectl() {
        let inside = |namespace: Option<&str>, pod: &str, path: &str| Place::Inside {
            namespace: namespace.map(str::to_owned),
            pod: pod.to_owned(),
            path: path.into(),
        };
        assert_eq!("web:/etc".parse(), Ok(inside(None, "web", "/etc")));
        assert_eq!("shop/web:a:b".parse(), Ok(inside(Some("shop"), "web", "a:b")));
        assert_eq!("./a:b".parse(), Ok(Place::Here("./a:b".into())));
        assert_eq!("/tmp/x".parse(), Ok(Place::Here("/tmp/x".into())));
        for wrong in ["", ":/x", "web:", "/:x/", "a/b/c:/x", "/web:"] {
            let read = wrong.parse::<Place>();
            assert!(read.is_err() || matches!(read, Ok(Place::Here(_)) if wrong.starts_with('/')), "{wrong}");
        }
    }
}
