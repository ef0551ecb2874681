//! References to images: on a registry, on this disk, or the host itself.

use std::fmt;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `host:` or, which YAML takes without quotes, `host:/`: the host's own root, read-only.
    Host,
    /// `oci:PATH[:TAG]`, an OCI layout folder.
    OciLayout(Archive),
    /// `oci-archive:PATH[:TAG]`, an OCI layout in a tar file.
    OciArchive(Archive),
    /// `docker-archive:PATH[:TAG]`, what `docker save` writes.
    DockerArchive(Archive),
    /// An image of a registry.
    Registry(Registry),
}

/// A folder or file that holds images.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Archive {
    /// As it was written.
    pub path: String,
    /// Which of its images, if it says.
    pub tag: Option<String>,
}

/// An image of a registry, with everything filled in that may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registry {
    /// `docker.io`, `quay.io`, `localhost:5000`.
    pub host: String,
    /// `library/nginx`.
    pub repository: String,
    /// `latest` if neither tag nor digest is given.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

/// The text is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing is there.
    #[error("the image is empty")]
    Empty,
    /// Blanks around or inside.
    #[error("the image contains a blank")]
    Blank,
    /// `host:` is followed by something.
    #[error("`host:` stands alone")]
    HostWithPath,
    /// `oci:` and the like without a path.
    #[error("`{0}:` needs a path")]
    NoPath(&'static str),
    /// The path goes up.
    #[error("the path of `{0}:` must not contain `..`")]
    PathGoesUp(&'static str),
    /// The name has upper case letters.
    #[error("the name `{0}` must be in lower case")]
    UpperCase(String),
    /// The host is none.
    #[error("`{0}` is no name of a registry")]
    BadHost(String),
    /// The name is none.
    #[error("`{0}` is no name of an image")]
    BadName(String),
    /// The tag is none.
    #[error("`{0}` is no tag")]
    BadTag(String),
    /// The digest is none.
    #[error("`{0}` is no digest")]
    BadDigest(String),
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// If it is none; see [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ReferenceError::Blank);
        }
        match text.split_once(':') {
            Some(("host", "" | "/")) => Ok(Self::Host),
            Some(("host", rest)) if rest.starts_with('/') => Err(ReferenceError::HostWithPath),
            Some(("oci", rest)) if is_path(rest) => archive("oci", rest).map(Self::OciLayout),
            Some(("oci-archive", rest)) => archive("oci-archive", rest).map(Self::OciArchive),
            Some(("docker-archive", rest)) => archive("docker-archive", rest).map(Self::DockerArchive),
            _ => registry(text).map(Self::Registry),
        }
    }
}

/// `oci:5000/x`, or `oci:v1`, is an image `oci` of a registry only if no path follows.
fn is_path(rest: &str) -> bool {
    rest.is_empty() || rest.contains('/') || rest.starts_with('.')
}

fn archive(scheme: &'static str, rest: &str) -> Result<Archive, ReferenceError> {
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (path, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(ReferenceError::NoPath(scheme));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(ReferenceError::PathGoesUp(scheme));
    }
    match tag {
        Some(tag) if !is_tag(tag) => Err(ReferenceError::BadTag(tag.to_owned())),
        tag => Ok(Archive { path: path.to_owned(), tag: tag.map(str::to_owned) }),
    }
}

fn registry(text: &str) -> Result<Registry, ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
        Some((_, digest)) => return Err(ReferenceError::BadDigest(digest.to_owned())),
        None => (text, None),
    };
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(rest[slash + colon + 1..].to_owned())),
        None => (rest, None),
    };
    if let Some(tag) = tag.as_ref().filter(|tag| !is_tag(tag)) {
        return Err(ReferenceError::BadTag(tag.clone()));
    }
    let (host, repository) = match name.split_once('/') {
        Some((host, path))
            if host.contains(['.', ':']) || host == "localhost" || host.chars().any(char::is_uppercase) =>
        {
            (host, path.to_owned())
        }
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    if !is_host(host) {
        return Err(ReferenceError::BadHost(host.to_owned()));
    }
    if repository.chars().any(char::is_uppercase) {
        return Err(ReferenceError::UpperCase(name.to_owned()));
    }
    if name.len() > 255 || !repository.split('/').all(is_component) {
        return Err(ReferenceError::BadName(name.to_owned()));
    }
    let (host, repository) = match host {
        "docker.io" | "index.docker.io" if !repository.contains('/') => {
            ("docker.io", format!("library/{repository}"))
        }
        "index.docker.io" => ("docker.io", repository),
        host => (host, repository),
    };
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Registry { host: host.to_owned(), repository, tag, digest })
}

/// `[\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// `algorithm:hex`, of at least 32 digits; `sha256` has 64.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let hexadecimal = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let length = match algorithm {
        "sha256" => hex.len() == 64,
        "sha384" => hex.len() == 96,
        "sha512" => hex.len() == 128,
        _ => false,
    };
    hexadecimal && length
}

pub(crate) fn is_host(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let name_is_right = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(label),
    };
    name_is_right && port.parse::<u16>().is_ok()
}

/// Lower case letters and digits, separated by `.`, `_`, `__` or dashes.
fn is_component(component: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(component.bytes().next())
        && edge(component.bytes().next_back())
        && component
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|bad| component.contains(bad))
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// The whole reference, nothing left out.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host:"),
            Self::OciLayout(archive) => write!(f, "oci:{archive}"),
            Self::OciArchive(archive) => write!(f, "oci-archive:{archive}"),
            Self::DockerArchive(archive) => write!(f, "docker-archive:{archive}"),
            Self::Registry(registry) => {
                write!(f, "{}/{}", registry.host, registry.repository)?;
                if let Some(tag) = &registry.tag {
                    write!(f, ":{tag}")?;
                }
                if let Some(digest) = &registry.digest {
                    write!(f, "@{digest}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn what_may_be_left_out_is_filled_in() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("host:", "host:"),
            ("host:/", "host:"),
            ("oci:/srv/images/web:v1", "oci:/srv/images/web:v1"),
            ("oci:./web", "oci:./web"),
            ("oci-archive:web.tar", "oci-archive:web.tar"),
            ("docker-archive:/srv/web.tar:a", "docker-archive:/srv/web.tar:a"),
            ("oci:v1", "docker.io/library/oci:v1"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), whole, "{text}");
        }
        let pinned = Reference::parse(&format!("nginx@{digest}")).unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{digest}"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            " ",
            "nginx ",
            "Nginx",
            "a//b",
            "nginx:",
            "nginx:a b",
            "nginx@sha256:1",
            "/nginx",
            "-a",
            "a..b",
            "host:/x",
            "oci:",
            "oci-archive:",
            "oci:/a/../b",
            "http://x/y",
            "x.y:99999/z",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
