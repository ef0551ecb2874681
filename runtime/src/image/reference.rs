//! Where an image is to be found.

use super::error::ImageError;
use std::path::PathBuf;

/// A reference to an image that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// The host's own root.
    Host,
    /// An OCI image layout: a folder.
    Layout(Local),
    /// An OCI image layout in a tar archive.
    OciArchive(Local),
    /// What `docker save` writes.
    DockerArchive(Local),
}

/// A path, and which of the images there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) path: PathBuf,
    pub(super) tag: Option<String>,
}

impl Reference {
    /// The reference that a manifest's `image` is.
    ///
    /// # Errors
    /// `InvalidImageName` for what is no reference, `ErrImagePull` for a
    /// registry's.
    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        if text == "host:" {
            return Ok(Self::Host);
        }
        let invalid = |problem| ImageError::InvalidName { reference: text.to_owned(), problem };
        for (prefix, make) in [
            ("oci:", Self::Layout as fn(Local) -> Self),
            ("oci-archive:", Self::OciArchive),
            ("docker-archive:", Self::DockerArchive),
        ] {
            if let Some(rest) = text.strip_prefix(prefix) {
                return Ok(make(
                    local(rest).ok_or_else(|| invalid("an absolute path must follow the colon"))?,
                ));
            }
        }
        if text.starts_with("host:") {
            return Err(invalid("nothing may follow \"host:\""));
        }
        check_registry_name(text).map_err(invalid)?;
        Err(ImageError::Registry { reference: text.to_owned() })
    }
}

/// `PATH[:TAG]`. A path that has colons needs its tag written, as skopeo has it.
fn local(text: &str) -> Option<Local> {
    let (path, tag) = match text.split_once(':') {
        Some((path, tag)) if !tag.is_empty() => (path, Some(tag.to_owned())),
        Some((path, _)) => (path, None),
        None => (text, None),
    };
    path.starts_with('/').then(|| Local { path: path.into(), tag })
}

/// The grammar of `distribution/reference`, loosely: what cannot be a name at all.
fn check_registry_name(text: &str) -> Result<(), &'static str> {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_none_or(|hex| hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()))
    }) {
        return Err("the digest must be sha256: and 64 hexadecimal digits");
    }
    let path_start = name.find('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[path_start..].split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (&name[path_start..], None),
    };
    let tag_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.chars().all(tag_char)) {
        return Err("a tag has 1 to 128 letters, digits, '_', '.' and '-'");
    }
    let component = |part: &str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge)
            && part.ends_with(edge)
            && part.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-'))
    };
    if !path.split('/').all(component) {
        return Err("a name has lower-case letters and digits, separated by '/', '.', '_' and '-'");
    }
    Ok(())
}
