//! One blob, from peers or the registry to the disk.

use super::super::digest::{Hashing, hex_of};
use super::super::error::ImageError;
use super::endpoint::Remote;
use super::flights::Flight;
use super::hunt::Hunt;
use super::provenance::Tally;
use super::swarm::Swarm;
use super::{Progress, blocking};
use bytes::Bytes;
use futures::StreamExt;
use oci_client::client::{BlobResponse, SizedStream};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

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
    /// Where it is when it is whole.
    pub(super) fn path(&self) -> Result<PathBuf, ImageError> {
        Ok(self.folder.join("blobs").join("sha256").join(hex_of(self.digest)?))
    }

    fn part(&self) -> Result<PathBuf, ImageError> {
        Ok(self.path()?.with_extension("part"))
    }

    /// All of it is on the disk, if its size can tell.
    pub(super) fn is_whole(&self) -> Result<bool, ImageError> {
        Ok(fs::metadata(self.path()?).is_ok_and(|found| found.len() == self.size))
    }

    /// So many bytes of it are on the disk. A file that has more is not of it, and goes.
    pub(super) fn have(&self) -> Result<u64, ImageError> {
        if self.is_whole()? {
            return Ok(self.size);
        }
        let part = self.part()?;
        let have = fs::metadata(&part).map_or(0, |found| found.len());
        if have <= self.size {
            return Ok(have);
        }
        let _ = fs::remove_file(&part);
        Ok(0)
    }

    fn is_done(&self, part: &Path) -> Result<(), ImageError> {
        fs::rename(part, self.path()?).map_err(|source| ImageError::io("rename", part, source))
    }

    /// The blob is whole on the disk; its content is still to be verified.
    pub(super) async fn fetch(
        &self,
        remote: &Remote,
        progress: &Progress,
        flight: &Arc<Flight>,
    ) -> Result<(), ImageError> {
        let part = self.part()?;
        let mut have = self.have()?;
        let mut fruitless = 0;
        while have < self.size || !part.exists() {
            flight.send_replace(have);
            let result = self.go_on(remote, have, progress, flight).await;
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
        self.is_done(&part)
    }

    /// As much of the blob as peers give is on the disk. Says who gave some of it.
    pub(super) async fn hunt(
        &self,
        swarm: &Swarm,
        progress: &Progress,
        tally: &Tally,
    ) -> Result<BTreeSet<String>, ImageError> {
        let (mut hunt, mut givers) = (Hunt::new(self.digest, Instant::now()), BTreeSet::new());
        let (part, mut have) = (self.part()?, self.have()?);
        let mut file: Option<Arc<File>> = None;
        while have < self.size {
            let Some(gift) = swarm.next(&mut hunt, self.digest, have, self.size - have).await else {
                return Ok(givers);
            };
            let out = match &file {
                Some(file) => Arc::clone(file),
                None => Arc::clone(file.insert(Arc::new(opened(&part, have)?))),
            };
            let bytes = gift.content.len() as u64;
            let written = tokio::task::spawn_blocking(move || (&*out).write_all(&gift.content)).await;
            let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
            written.map_err(|source| ImageError::io("write", &part, source))?;
            have += bytes;
            progress.add(bytes);
            tally.peer(&gift.peer, u64::from(have == self.size), bytes);
            givers.insert(gift.peer);
        }
        // Also one that a crash left whole here.
        if part.exists() {
            self.is_done(&part)?;
        }
        Ok(givers)
    }

    /// True if what is on the disk is the blob.
    pub(super) async fn verify(&self) -> Result<bool, ImageError> {
        let (path, wanted) = (self.path()?, self.digest.to_owned());
        blocking(move || {
            let file = File::open(&path).map_err(|source| ImageError::io("read", &path, source))?;
            match Hashing::new(BufReader::with_capacity(128 << 10, file)).verify("blob", &wanted) {
                Ok(_) => Ok(true),
                Err(ImageError::DigestMismatch { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// One request: what is missing comes, or as much of it as the connection carries.
    async fn go_on(
        &self,
        remote: &Remote,
        have: u64,
        progress: &Progress,
        flight: &Arc<Flight>,
    ) -> Result<(), ImageError> {
        let part = &self.part()?;
        let (mut stream, from) = self.request(remote, have).await?;
        progress.take_back(have - from);
        flight.send_replace(from);
        let (pieces, written) = writer(part, from, Arc::clone(flight))?;
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
        for path in [self.path(), self.part()].into_iter().flatten() {
            let _ = fs::remove_file(path);
        }
    }
}

type Written = tokio::task::JoinHandle<io::Result<()>>;

/// The file, to be written from `offset` on.
fn opened(part: &Path, offset: u64) -> Result<File, ImageError> {
    let fail = |source| ImageError::io("write", part, source);
    if let Some(folder) = part.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let file = File::options().create(true).append(true).open(part).map_err(fail)?;
    file.set_len(offset).map_err(fail)?;
    Ok(file)
}

/// Writes pieces to the file from `offset` on, on a thread that may wait for the disk, and says how
/// far it is.
fn writer(
    part: &Path,
    offset: u64,
    flight: Arc<Flight>,
) -> Result<(mpsc::Sender<Bytes>, Written), ImageError> {
    let mut file = opened(part, offset)?;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let written = tokio::task::spawn_blocking(move || {
        let mut have = offset;
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece)?;
            have += piece.len() as u64;
            flight.send_replace(have);
        }
        Ok(())
    });
    Ok((sender, written))
}
