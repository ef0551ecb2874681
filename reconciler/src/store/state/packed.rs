//! An object as text, compressed: a third to a half of what it takes unpacked.

use manifests::{Kind, Object};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use zstd::bulk::{Compressor, Decompressor};

/// Of zstd: a few microseconds for an object, and text is half as long after.
const LEVEL: i32 = 1;
/// Flags, and the length of the text.
const HEAD: usize = 5;

/// What is in most of the texts, and so in none of the compressed ones; the most common last.
const KNOWN: &[u8] = include_bytes!("known.json");

const COMPRESSED: u8 = 1;
const ANNOTATED: u8 = 2;
const OWNED: u8 = 4;

thread_local! {
    /// Kept, for it takes longer to make than to use.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// One object that nobody reads now: flags, the length of its JSON text, and the text or what
/// zstd makes of it. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Packed(Arc<[u8]>);

impl Packed {
    /// `object`, whose text is `json`.
    pub(super) fn plain(object: &Object, json: &[u8]) -> Option<Self> {
        Self::put(flags_of(object), json.len(), json)
    }

    /// `object`; none if it has no text.
    pub(super) fn of(object: &Object) -> Option<Self> {
        Self::plain(object, &object.to_json_bytes().ok()?)
    }

    /// It is shorter after, if it can be.
    pub(super) fn compress(&mut self, packer: &mut Packer) {
        let text = &self.0[HEAD..];
        let short =
            packer.compress(text).and_then(|short| Self::put(self.0[0] | COMPRESSED, text.len(), &short));
        if let Some(short) = short {
            *self = short;
        }
    }

    fn put(flags: u8, length: usize, content: &[u8]) -> Option<Self> {
        let length = u32::try_from(length).ok()?.to_le_bytes();
        let mut all = Vec::with_capacity(HEAD + content.len());
        all.push(flags);
        all.extend_from_slice(&length);
        all.extend_from_slice(content);
        Some(Self(all.into()))
    }

    fn is(&self, flag: u8) -> bool {
        self.0[0] & flag != 0
    }

    /// True if it may be made shorter.
    pub(super) fn is_plain(&self) -> bool {
        !self.is(COMPRESSED)
    }

    /// True if it has annotations.
    pub(super) fn is_annotated(&self) -> bool {
        self.is(ANNOTATED)
    }

    /// True if it has owners.
    pub(super) fn is_owned(&self) -> bool {
        self.is(OWNED)
    }

    /// Its JSON text.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn json(&self) -> io::Result<Cow<'_, [u8]>> {
        let (head, content) = self.0.split_at(HEAD);
        if !self.is(COMPRESSED) {
            return Ok(Cow::Borrowed(content));
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        DECOMPRESSOR.with_borrow_mut(|kept| {
            let decompressor = match kept {
                Some(decompressor) => decompressor,
                None => kept.insert(Decompressor::with_dictionary(KNOWN)?),
            };
            decompressor.decompress(content, length).map(Cow::Owned)
        })
    }

    /// The object of `kind` that it was.
    pub(super) fn object(&self, kind: Kind) -> Arc<Object> {
        let json = self.json().expect("what was compressed here can be decompressed");
        let object = Object::from_json_bytes(kind, &json);
        Arc::new(object.expect("what was written as an object here can be read as one"))
    }
}

fn flags_of(object: &Object) -> u8 {
    let meta = object.metadata();
    let is_annotated = meta.annotations.as_ref().is_some_and(|all| !all.is_empty());
    let is_owned = meta.owner_references.as_ref().is_some_and(|all| !all.is_empty());
    (if is_annotated { ANNOTATED } else { 0 }) | (if is_owned { OWNED } else { 0 })
}

/// Compresses one text after the other.
pub(super) struct Packer(Option<Compressor<'static>>);

impl Packer {
    pub(super) fn new() -> Self {
        Self(Compressor::with_dictionary(LEVEL, KNOWN).ok())
    }

    /// None if it would not be shorter by a sixteenth.
    fn compress(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let short = self.0.as_mut()?.compress(text).ok()?;
        (short.len() < text.len() - text.len() / 16).then_some(short)
    }
}
