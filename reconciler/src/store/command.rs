//! What the log holds: batches of writes, with the time and the chance that decide them.
//!
//! Every member applies the same bytes to the same state and comes to the same objects, so
//! nothing else may have a say: no clock, no chance, no memory of the process.

use super::wire::{self, WireError};
use super::{Write, WriteError};
use crate::random::RandomSource;
use bytes::Bytes;
use jiff::Timestamp;
use manifests::k8s_openapi::api::core::v1::Pod;
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::{Kind, Object, ObjectKey};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Grows when an older program would misread a command: with each kind and each verb, too, for an older
/// member would refuse what the others do. What needs the version of now is said by [`version_of`].
pub(super) const VERSION: u32 = 2;
/// What nothing new is in.
const FIRST: u32 = 1;

/// A command as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command(Bytes);

/// The outcome of each batch of a command, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(pub(super) Vec<Answer>);

/// The outcome of one batch: the object that each of its writes left.
pub(super) type Answer = Result<Vec<Arc<Object>>, WriteError>;

/// A command, taken apart.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The leader's time when it took the batches in.
    pub(super) now: Timestamp,
    pub(super) chance: SeededRandom,
    /// Each with its size in bytes.
    pub(super) batches: Vec<(Result<Vec<Write>, WriteError>, usize)>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct CommandMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(int64, tag = "2")]
    second: i64,
    #[prost(int32, tag = "3")]
    nanosecond: i32,
    #[prost(fixed64, tag = "4")]
    seed_high: u64,
    #[prost(fixed64, tag = "5")]
    seed_low: u64,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    batches: Vec<Bytes>,
}

/// What every version can read of a command.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct VersionMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct BatchMessage {
    #[prost(message, repeated, tag = "1")]
    writes: Vec<WriteMessage>,
    /// The lowest version that comes to the same outcome.
    #[prost(uint32, tag = "2")]
    version: u32,
}

/// What is read of a batch by who passes it on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct BatchVersionMessage {
    #[prost(uint32, tag = "2")]
    version: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WriteMessage {
    #[prost(enumeration = "Verb", tag = "1")]
    verb: i32,
    #[prost(string, tag = "2")]
    kind: String,
    /// JSON, of the verbs that carry an object.
    #[prost(bytes = "bytes", tag = "3")]
    object: Bytes,
    #[prost(string, tag = "4")]
    namespace: String,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(string, optional, tag = "6")]
    uid: Option<String>,
    #[prost(int64, optional, tag = "7")]
    grace_seconds: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Verb {
    Unknown = 0,
    Create = 1,
    Update = 2,
    UpdateStatus = 3,
    Delete = 4,
    Remove = 5,
}

/// One batch in the log's form, made by whoever writes, so that the proposer need not.
pub(super) fn encode_batch(batch: &[Write]) -> Result<Bytes, WriteError> {
    let writes = batch.iter().map(WriteMessage::of).collect::<Result<_, _>>()?;
    let version = batch.iter().map(version_of).max().unwrap_or(FIRST);
    Ok(BatchMessage { writes, version }.encode_to_vec().into())
}

/// The lowest version whose members come to the same outcome: before the second, an Ingress had no status
/// of its own.
const fn version_of(write: &Write) -> u32 {
    match write {
        Write::Update(Object::Ingress(_)) | Write::UpdateStatus(Object::Ingress(_)) => 2,
        Write::Create(_)
        | Write::Update(_)
        | Write::UpdateStatus(_)
        | Write::Delete { .. }
        | Write::Remove { .. } => FIRST,
    }
}

/// What a batch says of itself; one that cannot be read is refused by every version alike.
fn version_of_batch(batch: &Bytes) -> u32 {
    wire::decode::<BatchVersionMessage>("a batch", batch.clone()).map_or(FIRST, |batch| batch.version)
}

fn decode_batch(batch: Bytes) -> Result<Vec<Write>, WriteError> {
    let batch: BatchMessage =
        wire::decode("a batch", batch).map_err(|error| WriteError::Unreadable(error.to_string()))?;
    batch.writes.into_iter().map(Write::try_from).collect()
}

impl Command {
    /// The batches of `batches`, taken in at `now`.
    pub(super) fn new(now: Timestamp, chance: &mut dyn RandomSource, batches: Vec<Bytes>) -> Self {
        let message = CommandMessage {
            version: batches.iter().map(version_of_batch).max().unwrap_or(FIRST).clamp(FIRST, VERSION),
            second: now.as_second(),
            nanosecond: now.subsec_nanosecond(),
            seed_high: chance.next(),
            seed_low: chance.next(),
            batches,
        };
        Self(message.encode_to_vec().into())
    }

    pub(super) const fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// # Errors
    /// If it is for a newer version, or it is no command.
    pub(super) fn readable(&self) -> Result<(), WireError> {
        known(wire::decode::<VersionMessage>("a command", self.0.clone())?.version)
    }

    /// What is to be applied.
    ///
    /// # Errors
    /// If it is for a newer version, or it is no command. A single batch that cannot be read
    /// is an error of that batch alone, and the same on every member.
    pub(super) fn decode(&self) -> Result<Decoded, WireError> {
        let message: CommandMessage = wire::decode("a command", self.0.clone())?;
        known(message.version)?;
        let now = Timestamp::new(message.second, message.nanosecond);
        let batches = message.batches.into_iter().map(|batch| {
            let size_bytes = batch.len();
            (decode_batch(batch), size_bytes)
        });
        Ok(Decoded {
            now: now.unwrap_or(Timestamp::UNIX_EPOCH),
            chance: SeededRandom::new([message.seed_high, message.seed_low]),
            batches: batches.collect(),
        })
    }
}

fn known(found: u32) -> Result<(), WireError> {
    if found > VERSION {
        return Err(WireError::Newer { what: "a command", found, known: VERSION });
    }
    Ok(())
}

impl WriteMessage {
    fn of(write: &Write) -> Result<Self, WriteError> {
        match write {
            Write::Create(object) => Self::carrying(Verb::Create, object),
            Write::Update(object) => Self::carrying(Verb::Update, object),
            // The rest of it is not looked at.
            Write::UpdateStatus(Object::Pod(pod)) => {
                Self::carrying(Verb::UpdateStatus, &without_spec(pod).into())
            }
            Write::UpdateStatus(object) => Self::carrying(Verb::UpdateStatus, object),
            Write::Delete { key, uid, grace_seconds } => {
                Ok(Self { grace_seconds: *grace_seconds, ..Self::naming(Verb::Delete, key, uid.as_ref()) })
            }
            Write::Remove { key, uid } => Ok(Self::naming(Verb::Remove, key, uid.as_ref())),
        }
    }

    fn carrying(verb: Verb, object: &Object) -> Result<Self, WriteError> {
        let json = object
            .to_json_bytes()
            .map_err(|source| WriteError::Encode { key: object.key(), source: Arc::new(source) })?;
        let kind = object.kind().as_str().into();
        Ok(Self { verb: verb.into(), kind, object: json.into(), ..Self::default() })
    }

    fn naming(verb: Verb, key: &ObjectKey, uid: Option<&String>) -> Self {
        Self {
            verb: verb.into(),
            kind: key.kind.as_str().into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.cloned(),
            ..Self::default()
        }
    }

    fn object(&self, kind: Kind) -> Result<Object, WriteError> {
        Object::from_json_bytes(kind, &self.object)
            .map_err(|error| WriteError::Unreadable(format!("a {kind}: {error}")))
    }
}

/// What of a Pod says whose status it is, and the status: Pods are many, and change often.
fn without_spec(pod: &Pod) -> Pod {
    let ObjectMeta { namespace, name, uid, resource_version, .. } = &pod.metadata;
    let metadata = ObjectMeta {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        resource_version: resource_version.clone(),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: None, status: pod.status.clone() }
}

impl TryFrom<WriteMessage> for Write {
    type Error = WriteError;

    fn try_from(message: WriteMessage) -> Result<Self, WriteError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == message.kind);
        let kind =
            kind.ok_or_else(|| WriteError::Unreadable(format!("there is no kind {:?}", message.kind)))?;
        let key = || ObjectKey::new(kind, message.namespace.clone(), message.name.clone());
        let uid = message.uid.clone();
        Ok(match message.verb() {
            Verb::Create => Self::Create(message.object(kind)?),
            Verb::Update => Self::Update(message.object(kind)?),
            Verb::UpdateStatus => Self::UpdateStatus(message.object(kind)?),
            Verb::Delete => Self::Delete { key: key(), uid, grace_seconds: message.grace_seconds },
            Verb::Remove => Self::Remove { key: key(), uid },
            Verb::Unknown => {
                return Err(WriteError::Unreadable(format!("there is no verb {}", message.verb)));
            }
        })
    }
}

/// Chance that every member draws alike: SHA-256 of a seed and a count.
#[derive(Debug, Clone)]
pub(super) struct SeededRandom {
    seed: [u64; 2],
    drawn: u64,
}

impl SeededRandom {
    pub(super) const fn new(seed: [u64; 2]) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl RandomSource for SeededRandom {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        let mut hash = Sha256::new();
        for number in [self.seed[0], self.seed[1], self.drawn] {
            hash.update(number.to_le_bytes());
        }
        let digest = hash.finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
