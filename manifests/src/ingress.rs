//! Annotations of an Ingress. Their names are those of ingress-nginx, which users have written already;
//! few of them have an effect, and whoever writes another is told.

use crate::quantity::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

/// What their names begin with.
const PREFIX: &str = "nginx.ingress.kubernetes.io/";
/// Names the class, where `ingressClassName` does not.
pub const CLASS: &str = "kubernetes.io/ingress.class";
/// The controller of IngressClasses that nodes serve.
pub const CONTROLLER: &str = "evenkeel.dev/ingress";

/// Those that have an effect.
const KNOWN: [&str; 5] =
    ["ssl-redirect", "force-ssl-redirect", "backend-protocol", "proxy-read-timeout", "proxy-body-size"];

/// What begins so keeps somebody out: without it, an Ingress would serve whom it should not.
const RESTRICTING: [&str; 8] = [
    "auth-",
    "enable-global-auth",
    "whitelist-source-range",
    "allowlist-source-range",
    "denylist-source-range",
    "modsecurity-",
    "enable-modsecurity",
    "satisfy",
];

/// How requests of an Ingress are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressAnnotations {
    /// Requests without TLS are sent to where there is, if the Ingress has a certificate for the host.
    pub ssl_redirect: bool,
    /// They are in any case.
    pub force_ssl_redirect: bool,
    /// The backend speaks HTTP/2 without TLS.
    pub grpc: bool,
    /// For how long the backend may say nothing.
    pub read_timeout: Duration,
    /// The longest body of a request, in bytes; none is too long if `None`.
    pub body_limit: Option<u64>,
}

impl Default for IngressAnnotations {
    fn default() -> Self {
        Self {
            ssl_redirect: true,
            force_ssl_redirect: false,
            grpc: false,
            read_timeout: Duration::from_secs(60),
            body_limit: None,
        }
    }
}

/// An annotation that says nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The annotation.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

impl IngressAnnotations {
    /// What `annotations` say, and what of it is wrong: there it is as if nothing was said.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> (Self, Vec<Mistake>) {
        let (mut own, mut mistakes) = (Self::default(), Vec::new());
        for (key, value) in annotations.into_iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if let Err(wanted) = own.set(name, value.trim()) {
                let message = format!("`{value}` is not {wanted}");
                mistakes.push(Mistake { key: key.clone(), message });
            }
        }
        (own, mistakes)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let switch = || value.parse::<bool>().map_err(|_| "`true` or `false`");
        match name {
            "ssl-redirect" => self.ssl_redirect = switch()?,
            "force-ssl-redirect" => self.force_ssl_redirect = switch()?,
            "backend-protocol" => {
                self.grpc = match value {
                    "HTTP" => false,
                    "GRPC" => true,
                    _ => return Err("`HTTP` or `GRPC`, which is what backends are asked with"),
                };
            }
            "proxy-read-timeout" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
                self.read_timeout =
                    Duration::from_secs(seconds.ok_or("a number of seconds from 1 to 86400")?);
            }
            "proxy-body-size" => self.body_limit = size(value).ok_or("a size as `8m`, or `0` for any")?,
            _ => {}
        }
        Ok(())
    }
}

/// Bytes as nginx writes them: `8m`, `512k`, `1g`, `100`; any amount of `0`.
fn size(text: &str) -> Option<Option<u64>> {
    let lower = text.to_ascii_lowercase();
    let binary = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(number) => format!("{number}{}i", lower.get(number.len()..)?.to_ascii_uppercase()),
        None => lower,
    };
    let bytes = u64::try_from(Quantity::parse(&binary).ok()?.bytes_ceil()).ok()?;
    Some((bytes > 0).then_some(bytes))
}

/// Those of ingress-nginx that do nothing here.
pub fn without_effect(annotations: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = &str> {
    let keys = annotations.into_iter().flat_map(BTreeMap::keys);
    keys.map(String::as_str).filter(|key| key.strip_prefix(PREFIX).is_some_and(|name| !KNOWN.contains(&name)))
}

/// The first that would keep somebody out, and does nothing here: such an Ingress is not served.
#[must_use]
pub fn restriction(annotations: Option<&BTreeMap<String, String>>) -> Option<&str> {
    without_effect(annotations).find(|key| {
        let name = key.strip_prefix(PREFIX).unwrap_or(key);
        RESTRICTING.iter().any(|word| name.starts_with(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_said_is_read() {
        assert_eq!(IngressAnnotations::of(None), (IngressAnnotations::default(), vec![]));
        let said = annotations(&[
            ("ssl-redirect", "false"),
            ("force-ssl-redirect", "true"),
            ("backend-protocol", "GRPC"),
            ("proxy-read-timeout", "3600"),
            ("proxy-body-size", "8m"),
        ]);
        let read = IngressAnnotations {
            ssl_redirect: false,
            force_ssl_redirect: true,
            grpc: true,
            read_timeout: Duration::from_secs(3600),
            body_limit: Some(8 << 20),
        };
        assert_eq!(IngressAnnotations::of(Some(&said)), (read, vec![]));
        for (text, bytes) in [("0", Some(None)), ("512k", Some(Some(512 << 10))), ("1G", Some(Some(1 << 30)))]
        {
            assert_eq!(size(text), bytes, "{text}");
        }
        assert_eq!((size("8x"), size("-1"), size("")), (None, None, None));
    }

    #[test]
    fn what_is_wrong_is_as_if_it_was_not_said() {
        let said = annotations(&[
            ("ssl-redirect", "no"),
            ("backend-protocol", "FCGI"),
            ("proxy-read-timeout", "60s"),
            ("proxy-body-size", "big"),
        ]);
        let (read, mistakes) = IngressAnnotations::of(Some(&said));
        assert_eq!(read, IngressAnnotations::default());
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }

    #[test]
    fn what_keeps_somebody_out_is_not_passed_over() {
        let said = annotations(&[("rewrite-target", "/"), ("ssl-redirect", "true")]);
        assert_eq!(without_effect(Some(&said)).count(), 1);
        assert_eq!(restriction(Some(&said)), None);
        for name in ["auth-type", "auth-url", "whitelist-source-range", "auth-tls-secret"] {
            assert!(restriction(Some(&annotations(&[(name, "x")]))).is_some(), "{name}");
        }
    }
}
