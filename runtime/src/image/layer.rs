//! One layer: decompressed, unpacked and verified in one pass over its file.
//!
//! A thread of its own reads and decompresses ahead of the one that writes.

use super::blobs::Blobs;
use super::digest::Hashing;
use super::error::{ImageError, LayerError};
use super::layout::LayerSource;
use super::unpack::unpack;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What one layer may cost: an archive that claims more is refused, so that no
/// small file fills the disk.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most files, folders and links.
    pub entries: u64,
    /// Most bytes of its uncompressed archive, and of its files (holes count).
    pub bytes: u64,
}

impl Default for Limits {
    /// Two million entries and 128 GiB: more than any image that was seen.
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 128 << 30 }
    }
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The most memory that a zstd stream may ask for: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

fn is_magic(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD)
}

/// True if a file is compressed in a way that [`decompress`] knows.
pub(super) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut start = [0; 4];
    let count = file.read_at(&mut start, 0)?;
    Ok(is_magic(&start[..count]))
}

/// The plain content of `reader`, by its first bytes and not by what it is called.
pub(super) fn decompress(reader: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let start = reader.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(&ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

/// How much is decompressed at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that are decompressed before the one that is being written.
const AHEAD: usize = 32;

/// Unpacks `source` into the empty folder `into`, and checks the digests of
/// its file and of its uncompressed archive.
///
/// # Errors
/// If anything is wrong with it; `into` then holds a part of it.
pub(super) fn extract(
    blobs: &Blobs,
    source: &LayerSource,
    into: &Path,
    limits: Limits,
) -> Result<(), ImageError> {
    let in_layer = |error| ImageError::Layer { diff_id: source.diff_id.clone(), source: error };
    let (file, bytes) = blobs.open(&source.file)?;
    if source.blob.as_ref().is_some_and(|(_, wanted)| *wanted != bytes) {
        return Err(ImageError::Inconsistent {
            problem: "has a layer of another size than its manifest says",
        });
    }
    let (sender, pieces) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let digest = source.blob.as_ref().map(|(digest, _)| digest.as_str());
        let reading = scope.spawn(move || read_ahead(file, digest, &sender));
        let left = Cell::new(limits.bytes);
        let pieces = Pieces { coming: pieces, piece: Vec::new(), at: 0 };
        let mut plain = Hashing::new(Bounded { inner: pieces, left: &left });
        let unpacked = unpack(&mut plain, into, limits);
        let too_large = || in_layer(LayerError::TooManyBytes { limit: limits.bytes });
        if left.get() == 0 {
            return Err(too_large());
        }
        unpacked.map_err(in_layer)?;
        let verified = plain.verify("uncompressed layer", &source.diff_id);
        if left.get() == 0 {
            return Err(too_large());
        }
        // Nothing more is wanted of whoever reads.
        drop(verified?);
        reading.join().unwrap_or(Err(ImageError::Inconsistent { problem: "could not be read to its end" }))
    })
}

type Piece = io::Result<Vec<u8>>;

/// All of `file` was sent, decompressed, or the error that it ended with; or nobody wants it.
///
/// # Errors
/// If it was read to its end, and has another digest.
fn read_ahead(
    file: Box<dyn Read + Send>,
    digest: Option<&str>,
    pieces: &SyncSender<Piece>,
) -> Result<(), ImageError> {
    let compressed = SharedReader::new(Hashing::new(file));
    let mut plain = match decompress(Box::new(compressed.clone())) {
        Ok(plain) => plain,
        Err(error) => {
            let _ = pieces.send(Err(error));
            return Ok(());
        }
    };
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let piece = match fill(&mut plain, &mut piece) {
            Ok(0) => break,
            Ok(count) => {
                piece.truncate(count);
                Ok(piece)
            }
            Err(error) => Err(error),
        };
        let is_last = piece.is_err();
        if pieces.send(piece).is_err() || is_last {
            return Ok(());
        }
    }
    drop(plain);
    match (digest, compressed.into_inner()) {
        (Some(digest), Some(file)) => file.verify("blob", digest).map(drop),
        (Some(_), None) => Err(ImageError::Inconsistent { problem: "has a layer that is still read" }),
        (None, _) => Ok(()),
    }
}

/// What another thread reads.
struct Pieces {
    coming: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // It has hung up at the end.
            self.piece = self.coming.recv().unwrap_or(Ok(Vec::new()))?;
            self.at = 0;
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Reads until `buffer` is full or nothing is left.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Ends with an error after so many bytes.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)? as u64;
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        usize::try_from(count).map_err(io::Error::other)
    }
}

/// A reader that can be taken back from the decoder that reads it.
struct SharedReader<R>(std::rc::Rc<std::cell::RefCell<R>>);

impl<R> SharedReader<R> {
    fn new(inner: R) -> Self {
        Self(std::rc::Rc::new(std::cell::RefCell::new(inner)))
    }

    /// `None` while the decoder lives.
    fn into_inner(self) -> Option<R> {
        std::rc::Rc::into_inner(self.0).map(std::cell::RefCell::into_inner)
    }
}

impl<R> Clone for SharedReader<R> {
    fn clone(&self) -> Self {
        Self(std::rc::Rc::clone(&self.0))
    }
}

impl<R: Read> Read for SharedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}
