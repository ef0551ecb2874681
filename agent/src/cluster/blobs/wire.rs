//! What nodes say to each other of images.

use bytes::Bytes;
use prost::{Message, Oneof};
use runtime::image::registry::{Meaning, MeaningWanted, Part, PartWanted};

/// The version of the messages here; one of another is refused in words.
pub(super) const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Question {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(oneof = "Asked", tags = "2, 3, 4, 5")]
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Asked {
    /// Who has an image?
    #[prost(message, tag = "2")]
    Seek(Seek),
    /// The one who asks has these images.
    #[prost(message, tag = "3")]
    Have(Have),
    /// A part of a blob.
    #[prost(message, tag = "4")]
    Read(Read),
    /// What does a reference mean?
    #[prost(message, tag = "5")]
    Meaning(Reference),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Seek {
    /// The digest of a manifest.
    #[prost(string, tag = "1")]
    pub(super) image: String,
    /// The one who asks is getting it, from a registry if need be.
    #[prost(bool, tag = "2")]
    pub(super) can_fetch: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Have {
    #[prost(string, repeated, tag = "1")]
    pub(super) images: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Read {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
    #[prost(uint32, tag = "3")]
    pub(super) most: u32,
    #[prost(bool, tag = "4")]
    pub(super) whole_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Reference {
    #[prost(string, tag = "1")]
    pub(super) reference: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) fingerprints: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(oneof = "Told", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) told: Option<Told>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Told {
    #[prost(message, tag = "2")]
    Known(Known),
    #[prost(message, tag = "3")]
    Content(Content),
    #[prost(bool, tag = "4")]
    NotYet(bool),
    #[prost(bool, tag = "5")]
    Busy(bool),
    #[prost(bool, tag = "6")]
    Nothing(bool),
    #[prost(message, tag = "7")]
    Means(Means),
}

/// What a node knows of who has an image.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Known {
    /// It has it itself.
    #[prost(bool, tag = "1")]
    pub(super) has: bool,
    /// Others that have it.
    #[prost(string, repeated, tag = "2")]
    pub(super) have: Vec<String>,
    /// Others that were getting it before the one who asks.
    #[prost(string, repeated, tag = "3")]
    pub(super) getting: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Content {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) content: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Means {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) at: i64,
    #[prost(string, tag = "3")]
    pub(super) fingerprint: String,
}

/// What cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("this is no message of images")]
    Garbled(#[source] prost::DecodeError),
    #[error("messages of images of version {0} are not understood here, only of {VERSION}")]
    Version(u32),
    #[error("this is no answer to what was asked")]
    OffTopic,
}

pub(super) fn question(asked: Asked) -> Bytes {
    Question { version: VERSION, asked: Some(asked) }.encode_to_vec().into()
}

pub(super) fn answer(told: Option<Told>) -> Bytes {
    Answer { version: VERSION, told }.encode_to_vec().into()
}

/// What is asked.
///
/// # Errors
/// If it is of another version, or says nothing that is known.
pub(super) fn asked(body: Bytes) -> Result<Asked, WireError> {
    let question = Question::decode(body).map_err(WireError::Garbled)?;
    if question.version != VERSION {
        return Err(WireError::Version(question.version));
    }
    question.asked.ok_or(WireError::OffTopic)
}

/// What is answered; `None` is a word too.
///
/// # Errors
/// If it is of another version.
pub(super) fn told(body: Bytes) -> Result<Option<Told>, WireError> {
    let answer = Answer::decode(body).map_err(WireError::Garbled)?;
    if answer.version == VERSION { Ok(answer.told) } else { Err(WireError::Version(answer.version)) }
}

impl From<PartWanted> for Asked {
    fn from(wanted: PartWanted) -> Self {
        let PartWanted { digest, offset, most, whole_only } = wanted;
        Self::Read(Read { digest, offset, most, whole_only })
    }
}

impl From<Read> for PartWanted {
    fn from(read: Read) -> Self {
        let Read { digest, offset, most, whole_only } = read;
        Self { digest, offset, most, whole_only }
    }
}

impl From<Part> for Told {
    fn from(part: Part) -> Self {
        match part {
            Part::Content { content, size } => Self::Content(Content { content, size }),
            Part::NotYet => Self::NotYet(true),
            Part::Busy => Self::Busy(true),
            Part::Nothing => Self::Nothing(true),
        }
    }
}

impl TryFrom<Told> for Part {
    type Error = WireError;

    fn try_from(told: Told) -> Result<Self, WireError> {
        match told {
            Told::Content(Content { content, size }) => Ok(Self::Content { content, size }),
            Told::NotYet(_) => Ok(Self::NotYet),
            Told::Busy(_) => Ok(Self::Busy),
            Told::Nothing(_) => Ok(Self::Nothing),
            Told::Known(_) | Told::Means(_) => Err(WireError::OffTopic),
        }
    }
}

impl From<MeaningWanted> for Asked {
    fn from(wanted: MeaningWanted) -> Self {
        let MeaningWanted { reference, fingerprints } = wanted;
        Self::Meaning(Reference { reference, fingerprints })
    }
}

impl From<Meaning> for Told {
    fn from(meaning: Meaning) -> Self {
        let Meaning { digest, at, fingerprint } = meaning;
        Self::Means(Means { digest, at, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let wanted =
            PartWanted { digest: "sha256:ab".into(), offset: 1 << 40, most: 512 << 10, whole_only: true };
        let heard = asked(question(wanted.clone().into())).expect("a question");
        assert_eq!(heard, Asked::from(wanted.clone()));
        let Asked::Read(read) = heard else { panic!("{heard:?}") };
        assert_eq!(PartWanted::from(read), wanted);
        for part in [
            Part::Content { content: Bytes::from_static(b"abc"), size: 9 },
            Part::NotYet,
            Part::Busy,
            Part::Nothing,
        ] {
            let heard = told(answer(Some(part.clone().into()))).expect("an answer").expect("a word");
            assert_eq!(Part::try_from(heard).expect("a part"), part);
        }
        assert_eq!(told(answer(None)).expect("an answer"), None);
    }

    #[test]
    fn another_version_and_garbage_are_refused_in_words() {
        let newer = Question { version: 2, asked: None }.encode_to_vec();
        let refused = asked(newer.into()).expect_err("refused").to_string();
        assert_eq!(refused, "messages of images of version 2 are not understood here, only of 1");
        assert!(matches!(asked(Bytes::from_static(b"\xff\xff")), Err(WireError::Garbled(_))));
        let empty = Question { version: 1, asked: None }.encode_to_vec();
        assert!(matches!(asked(empty.into()), Err(WireError::OffTopic)));
    }
}
