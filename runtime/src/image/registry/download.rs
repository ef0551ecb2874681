//! One blob, from the registry to the disk.

use super::super::digest::hex_of;
use super::super::error::ImageError;
use super::Progress;
use super::endpoint::Remote;
use bytes::Bytes;
use futures::StreamExt;
use oci_client::client::{BlobResponse, SizedStream};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Times that a connection may break without a byte gained before that is the answer.
const FRUITLESS_TRIES: u32 = 3;
/// Pieces between the network and the disk.
const QUEUE: usize = 32;

/// Where a blob goes.
pub(super) struct Download<'a> {
    pub(super) folder: PathBuf,
    pub(super) digest: &'a str,
    pub(super) size: u64,
}

impl Download<'_> {
    fn path(&self) -> Result<PathBuf, ImageError> {
        Ok(self.folder.join("blobs").join("sha256").join(hex_of(self.digest)?))
    }

    /// The blob is whole on the disk; its content is still to be verified.
    pub(super) async fn fetch(&self, remote: &Remote, progress: &Progress) -> Result<(), ImageError> {
        let path = self.path()?;
        if fs::metadata(&path).is_ok_and(|found| found.len() == self.size) {
            progress.add(self.size);
            return Ok(());
        }
        let part = path.with_extension("part");
        let mut have = fs::metadata(&part).map_or(0, |found| found.len());
        if have > self.size {
            let _ = fs::remove_file(&part);
            have = 0;
        }
        progress.add(have);
        let mut fruitless = 0;
        while have < self.size || !part.exists() {
            let result = self.go_on(remote, &part, have, progress).await;
            let now = fs::metadata(&part).map_or(0, |found| found.len());
            fruitless = if now > have { 0 } else { fruitless + 1 };
            have = now;
            match result {
                Ok(()) if have == self.size => break,
                Err(error) if fruitless >= FRUITLESS_TRIES || !error.is_transient() => return Err(error),
                Ok(()) if fruitless >= FRUITLESS_TRIES => {
                    return Err(ImageError::Inconsistent {
                        problem: "has a layer of another size than its manifest says",
                    });
                }
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&part, &path).map_err(|source| ImageError::io("rename", &part, source))
    }

    /// One request: what is missing comes, or as much of it as the connection carries.
    async fn go_on(
        &self,
        remote: &Remote,
        part: &Path,
        have: u64,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let (mut stream, from) = self.request(remote, have).await?;
        progress.take_back(have - from);
        let (pieces, written) = writer(part, from)?;
        let mut at = from;
        let mut result = Ok(());
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    at += piece.len() as u64;
                    if at > self.size {
                        // Its file is longer than any use: it must not be gone on with.
                        result = Err(ImageError::Inconsistent {
                            problem: "has a layer of another size than its manifest says",
                        });
                        break;
                    }
                    progress.add(piece.len() as u64);
                    if pieces.send(piece).await.is_err() {
                        break;
                    }
                }
                Err(source) => {
                    result = Err(ImageError::io("fetch", Path::new(self.digest), source));
                    break;
                }
            }
        }
        drop(pieces);
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|source| ImageError::io("write", part, source))?;
        result
    }

    /// The stream, and the offset that it begins at.
    async fn request(&self, remote: &Remote, have: u64) -> Result<(SizedStream, u64), ImageError> {
        let (client, reference) = (&remote.client, &remote.reference);
        if have > 0 {
            match client.pull_blob_stream_partial(reference, self.digest, have, None).await {
                Ok(BlobResponse::Partial(stream)) => return Ok((stream, have)),
                // Not every registry can do it.
                Ok(BlobResponse::Full(stream)) => return Ok((stream, 0)),
                Err(_) => {}
            }
        }
        let stream = client.pull_blob_stream(reference, self.digest).await;
        Ok((stream.map_err(|error| remote.failed(error))?, 0))
    }

    /// The blob is not on the disk.
    pub(super) fn forget(&self) {
        if let Ok(path) = self.path() {
            let _ = fs::remove_file(path);
        }
    }
}

type Written = tokio::task::JoinHandle<io::Result<()>>;

/// Writes pieces to the file from `offset` on, on a thread that may wait for the disk.
fn writer(part: &Path, offset: u64) -> Result<(mpsc::Sender<Bytes>, Written), ImageError> {
    let fail = |source| ImageError::io("write", part, source);
    if let Some(folder) = part.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let file = File::options().create(true).append(true).open(part).map_err(fail)?;
    file.set_len(offset).map_err(fail)?;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let written = tokio::task::spawn_blocking(move || {
        let mut file = file;
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece)?;
        }
        Ok(())
    });
    Ok((sender, written))
}
