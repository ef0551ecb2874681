//! Answers that come bit by bit: lines of a log, events of a watch.

use super::{ClientError, fill_type};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use manifests::Kind;
use serde::Deserialize;
use serde_json::Value;

/// A body, line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    pending: BytesMut,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, pending: BytesMut::new(), ended: false }
    }

    /// The next line with its newline (the last may have none); `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    ///
    /// # Cancel safety
    /// A call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.pending.split_to(searched + at + 1).freeze()));
            }
            searched = self.pending.len();
            if self.ended {
                let rest = self.pending.split().freeze();
                return Ok(rest.has_remaining().then_some(rest));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(ClientError::Interrupted)?.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                None => self.ended = true,
            }
        }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum WatchKind {
    /// It is new, or newly selected.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or no longer selected.
    Deleted,
    /// The watch cannot go on; the object is a Status.
    Error,
    /// Nothing happened up to this resource version.
    Bookmark,
}

/// One line of a watch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct WatchEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub(crate) kind: WatchKind,
    /// The object as it is now, or last was.
    pub(crate) object: Value,
}

/// A watch, event by event.
#[derive(Debug)]
pub(crate) struct Watch {
    kind: Kind,
    lines: Lines,
}

impl Watch {
    pub(super) const fn new(kind: Kind, lines: Lines) -> Self {
        Self { kind, lines }
    }

    /// The next event about an object; `None` when the server ended the watch.
    ///
    /// # Errors
    /// If the connection breaks, or the server says that it cannot go on.
    ///
    /// # Cancel safety
    /// A call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        while let Some(line) = self.lines.next().await? {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let mut event: WatchEvent = serde_json::from_slice(&line).map_err(|source| {
                ClientError::Decode { target: format!("watch of {}", self.kind), source }
            })?;
            match event.kind {
                WatchKind::Bookmark => {}
                WatchKind::Error => return Err(refused(&event.object)),
                WatchKind::Added | WatchKind::Modified | WatchKind::Deleted => {
                    fill_type(self.kind, &mut event.object);
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }
}

fn refused(status: &Value) -> ClientError {
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    ClientError::Status { code, reason: text("reason"), message: text("message") }
}
