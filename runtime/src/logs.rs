//! Containers' logs, as their supervisor wrote them: the CRI's lines
//! `2026-01-02T15:04:05.123456789Z stdout F text`, where `P` instead of `F`
//! says that the line goes on in the next one of its stream.
//!
//! A container's folder has `<run>.log` for each run, and beside it
//! `<run>.log.<time>` for what gave way to it when it grew long.

mod cursor;
mod record;
mod segments;
mod tail;
mod watch;

use bytes::Bytes;
use cursor::Cursor;
use futures::Stream;
use futures::stream::try_unfold;
use jiff::Timestamp;
use std::io;
use std::path::PathBuf;
use watch::Watch;

/// What to read of a log, as `kubectl logs` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Wait for more, also through restarts of the container, until its folder is removed.
    pub follow: bool,
    /// The run before the newest.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

/// The logs of one container.
#[derive(Debug, Clone)]
pub struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// The logs in `folder`: `<log dir>/<namespace>_<pod>_<uid>/<container>`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What `options` ask for, as the container wrote it, in pieces of any
    /// size. Dropping the stream ends it. Needs a tokio runtime.
    ///
    /// # Errors
    /// `NotFound` if there is no log folder, or no run before the newest when
    /// that is asked for. The stream ends after its first error.
    pub fn read(
        &self,
        options: LogOptions,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        // Before the first look, so that nothing that comes after it is missed.
        let watch = if options.follow { Some(Watch::new(&self.folder)?) } else { None };
        let cursor = Cursor::open(&self.folder, &options)?;
        Ok(try_unfold((cursor, watch), |(mut cursor, watch)| async move {
            loop {
                let (back, piece) = step(cursor).await?;
                cursor = back;
                match (piece, &watch) {
                    (Some(piece), _) => return Ok(Some((Bytes::from(piece), (cursor, watch)))),
                    (None, Some(watch)) if !cursor.is_done() => watch.changed().await?,
                    (None, _) => return Ok(None),
                }
            }
        }))
    }
}

/// One piece, read where it disturbs no other task.
async fn step(mut cursor: Cursor) -> io::Result<(Cursor, Option<Vec<u8>>)> {
    let read = tokio::task::spawn_blocking(move || {
        let piece = cursor.next_piece();
        (cursor, piece)
    });
    let (cursor, piece) = read.await.map_err(io::Error::other)?;
    Ok((cursor, piece?))
}

#[cfg(test)]
mod tests;
