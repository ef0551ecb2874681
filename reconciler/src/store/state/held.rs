//! How one object is kept.

use super::packed::{Packed, Packer};
use manifests::{Kind, Object};
use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

/// An object: as it is, or packed, and then perhaps also as it is, for who reads it.
#[derive(Debug)]
pub(super) enum Held {
    Whole(Arc<Object>),
    Packed(Packed, OnceLock<Arc<Object>>),
}

impl Clone for Held {
    fn clone(&self) -> Self {
        match self {
            Self::Whole(object) => Self::Whole(Arc::clone(object)),
            Self::Packed(packed, _) => Self::Packed(packed.clone(), OnceLock::new()),
        }
    }
}

impl Held {
    /// True for kinds of which there can be many, and that only few look at. The others are what the
    /// controllers and the nodes look at all the time.
    pub(super) const fn is_cold(kind: Kind) -> bool {
        matches!(kind, Kind::ConfigMap | Kind::Secret | Kind::Event)
    }

    /// `object`, just written: of a cold kind packed, and as it is for who reads it now.
    pub(super) fn new(object: &Arc<Object>) -> Self {
        let packed =
            Some(object).filter(|object| Self::is_cold(object.kind())).and_then(|object| Packed::of(object));
        match packed {
            Some(packed) => Self::Packed(packed, OnceLock::from(Arc::clone(object))),
            None => Self::Whole(Arc::clone(object)),
        }
    }

    /// True if it is kept as text.
    pub(super) const fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(..))
    }

    /// The object; `unpacked` is called when it was packed until now.
    pub(super) fn object(&self, kind: Kind, unpacked: impl FnOnce()) -> &Arc<Object> {
        match self {
            Self::Whole(object) => object,
            Self::Packed(packed, object) => object.get_or_init(|| {
                unpacked();
                packed.object(kind)
            }),
        }
    }

    /// The object, for one look.
    pub(super) fn look(&self, kind: Kind) -> Arc<Object> {
        match self {
            Self::Whole(object) => Arc::clone(object),
            Self::Packed(packed, object) => object.get().cloned().unwrap_or_else(|| packed.object(kind)),
        }
    }

    /// Its JSON text.
    pub(super) fn json(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Whole(object) => Ok(Cow::Owned(object.to_json_bytes()?)),
            Self::Packed(packed, _) => packed.json(),
        }
    }

    /// False if it surely has no annotations.
    pub(super) fn may_be_annotated(&self) -> bool {
        match self {
            Self::Whole(object) => object.metadata().annotations.is_some(),
            Self::Packed(packed, _) => packed.is_annotated(),
        }
    }

    /// False if it surely has no owners.
    pub(super) fn may_be_owned(&self) -> bool {
        match self {
            Self::Whole(object) => object.metadata().owner_references.is_some(),
            Self::Packed(packed, _) => packed.is_owned(),
        }
    }

    /// Its text is compressed after, if it is packed; true if it was not.
    pub(super) fn pack(&mut self, packer: &mut Packer) -> bool {
        match self {
            Self::Packed(packed, _) if packed.is_plain() => packed.compress(packer),
            Self::Packed(..) | Self::Whole(_) => return false,
        }
        true
    }

    /// It is no longer kept as it is beside being packed.
    pub(super) fn forget(&mut self) {
        if let Self::Packed(_, object) = self {
            object.take();
        }
    }
}
