//! Other nodes that may have what a registry has, as a puller needs them.

use bytes::Bytes;
use futures::future::BoxFuture;
use std::fmt;

/// The most bytes of a blob that are asked for at once.
pub const PART_BYTES: u32 = 512 << 10;

/// Peers of the node. What they say is never trusted: content is checked by its digest.
pub trait Neighbours: fmt::Debug + Send + Sync + 'static {
    /// Who has the image of the manifest `image`, or is getting it. If `can_fetch`, others hear from
    /// here on that this node is getting it.
    fn seek(&self, image: String, can_fetch: bool) -> BoxFuture<'static, Sought>;

    /// Others hear that this node has the image of the manifest `image`.
    fn announce(&self, image: String) -> BoxFuture<'static, ()>;

    /// A part of a blob, from `peer`. Comes to an end in bounded time.
    fn read(&self, peer: String, wanted: PartWanted) -> BoxFuture<'static, Result<Part, ReadError>>;

    /// What peers know of a reference, by the peers' names.
    fn meaning(&self, wanted: MeaningWanted) -> BoxFuture<'static, Vec<(String, Meaning)>>;
}

/// Why a peer gave nothing.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// Who may have an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// Nobody else is known to have it, or was known to get it before us: others wait for this node.
    pub first: bool,
    /// Peers that may have it, the likeliest first.
    pub peers: Vec<String>,
}

/// A part of a blob that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartWanted {
    /// `sha256:…`.
    pub digest: String,
    /// Where it begins.
    pub offset: u64,
    /// Bytes, at most.
    pub most: u32,
    /// Nothing of a blob that is still being fetched.
    pub whole_only: bool,
}

/// What a peer has of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Of a blob of `size` bytes; 0 if that is not known yet.
    Content {
        /// From the wanted offset on.
        content: Bytes,
        /// Bytes of the whole.
        size: u64,
    },
    /// It is being fetched, and is not so far yet.
    NotYet,
    /// Others are served; later.
    Busy,
    /// It is not there.
    Nothing,
}

/// A reference whose registry does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeaningWanted {
    /// In full.
    pub reference: String,
    /// Of the credentials that whoever asks would show to the registry.
    pub fingerprints: Vec<String>,
}

/// What a registry said of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Of the manifest or index.
    pub digest: String,
    /// When it said so, in Unix seconds.
    pub at: i64,
    /// To whom: the fingerprint that was among those that were asked with, or that of nobody.
    pub fingerprint: String,
}

/// The newest of these; peers that know it equally new are equal.
pub(super) fn newest(all: &[(String, Meaning)]) -> Option<&(String, Meaning)> {
    all.iter().max_by_key(|(_, meaning)| (meaning.at, &meaning.digest))
}

/// Counts what is fetched.
pub trait Counts: fmt::Debug + Send + Sync + 'static {
    /// Bytes came, and `blobs` blobs are whole by them.
    fn fetched(&self, from: Source, blobs: u64, bytes: u64);
    /// A peer gave what was not asked for, or did not give what it had.
    fn failed(&self, how: Failure);
    /// Bytes were given to a peer.
    fn served(&self, bytes: u64);
}

/// Where a blob comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Source {
    Peer,
    Registry,
}

/// How a peer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or a broken connection.
    Gone,
    /// The content has another digest.
    Corrupt,
}

/// Counts nothing.
impl Counts for () {
    fn fetched(&self, _: Source, _: u64, _: u64) {}
    fn failed(&self, _: Failure) {}
    fn served(&self, _: u64) {}
}
