//! Reads a journal's files at the start.
//!
//! Only the last write of the newest file may be torn. Everything else was on disk before
//! something followed it: what is not whole there is damage, and nothing is cut off then.

use super::frame;
use super::places::Places;
use super::segment::{BadHead, Head, number_of, path_of};
use crate::store::OpenError;
use crate::store::files::{Files, How, OpenFile};
use crate::store::log::facts::Facts;
use crate::store::open_error::io_error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Heads are shorter.
const HEAD_BYTES: usize = 64 << 10;

/// What a journal's files say.
pub(super) struct Recovered {
    pub(super) places: Places,
    pub(super) facts: Facts,
    pub(super) newest: Newest,
}

/// The file that is written on.
pub(super) struct Newest {
    pub(super) number: u32,
    pub(super) file: Arc<dyn OpenFile>,
    pub(super) salt: u64,
    /// Where its last frame ends.
    pub(super) end: u64,
    /// How long it is.
    pub(super) length: u64,
}

struct Found {
    number: u32,
    path: PathBuf,
    file: Arc<dyn OpenFile>,
    head: Head,
    begin: usize,
}

/// The numbers of the files that belong together, in order: the newest and all before it without
/// a gap.
///
/// # Errors
/// If there are none, or the disk fails.
pub(super) fn numbers(files: &dyn Files, folder: &Path) -> Result<Vec<u32>, OpenError> {
    let paths = files.list(folder).map_err(io_error("list", folder))?;
    let mut numbers: Vec<_> = paths.iter().filter_map(|path| number_of(path)).collect();
    numbers.sort_unstable();
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    // What is before a gap was dropped already, oldest first, and is there once more by a power cut.
    numbers.drain(..gap.map_or(0, |gap| gap + 1));
    if numbers.is_empty() {
        return Err(missing(folder));
    }
    Ok(numbers)
}

/// All that the files `numbers` in `folder` say.
///
/// # Errors
/// If the disk fails, or anything but the last write is not whole.
pub(super) fn recover(files: &dyn Files, folder: &Path, numbers: &[u32]) -> Result<Recovered, OpenError> {
    let all: Vec<_> = numbers.iter().map(|number| find(files, folder, *number)).collect::<Result<_, _>>()?;
    let Some((oldest, newest)) = all.first().zip(all.last()) else {
        return Err(missing(folder));
    };
    let (mut facts, mut places) = (oldest.head.facts.clone(), Places::new(oldest.head.next));
    let (mut end, mut length) = (0, 0);
    for (at, found) in all.iter().enumerate() {
        let damaged = |what: String| OpenError::Damaged { path: found.path.clone(), what };
        if found.head.next != places.next() || found.head.facts.identity != facts.identity {
            return Err(damaged("it does not go on where the file before it ends".into()));
        }
        places.add_segment(found.number, Arc::clone(&found.file));
        let mut bytes = whole(&*found.file).map_err(io_error("read", &found.path))?;
        length = bytes.len();
        if let Some(next) = all.get(at + 1) {
            let known = usize::try_from(next.head.end_before).ok().filter(|end| *end <= bytes.len());
            bytes.truncate(known.ok_or_else(|| damaged("it is cut short".into()))?);
        }
        end = replay(found, &bytes, &mut places, &mut facts)?;
        if at + 1 < all.len() && end != bytes.len() {
            return Err(damaged(format!("the frame at {end} fails its checksum")));
        }
        look_behind(found, &bytes[end..], end, &bytes)?;
    }
    if oldest.number > 1 && facts.purged.is_none_or(|purged| purged.index + 1 < oldest.head.next) {
        let path = oldest.path.clone();
        return Err(OpenError::Damaged { path, what: "the file before it is missing".into() });
    }
    let (end, length) = (end as u64, length as u64);
    let newest =
        Newest { number: newest.number, file: Arc::clone(&newest.file), salt: newest.head.salt, end, length };
    Ok(Recovered { places, facts, newest })
}

fn missing(folder: &Path) -> OpenError {
    let what = "it is missing, and so is what follows it".into();
    OpenError::Damaged { path: path_of(folder, 1), what }
}

fn find(files: &dyn Files, folder: &Path, number: u32) -> Result<Found, OpenError> {
    let path = path_of(folder, number);
    let file: Arc<dyn OpenFile> = files.open(&path, How::Existing).map_err(io_error("open", &path))?.into();
    let mut bytes = vec![0; HEAD_BYTES];
    let count = fill(&*file, &mut bytes).map_err(io_error("read", &path))?;
    match Head::decode(&bytes[..count]) {
        Ok((head, begin)) => Ok(Found { number, path, file, head, begin }),
        Err(BadHead::Newer(found)) => Err(OpenError::Newer { path, found }),
        Err(BadHead::Damaged(what)) => Err(OpenError::Damaged { path, what: what.into() }),
    }
}

fn whole(file: &dyn OpenFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let count = fill(file, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Reads from the start until `out` is full or the file ends.
fn fill(file: &dyn OpenFile, out: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < out.len() {
        match file.read_at(count as u64, &mut out[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Takes in the frames of a file; says where the last one ends.
fn replay(found: &Found, bytes: &[u8], places: &mut Places, facts: &mut Facts) -> Result<usize, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: found.path.clone(), what };
    let mut at = found.begin;
    while let Some(frame) = frame::read(found.head.salt, at, bytes) {
        let (records, end) = frame.map_err(damaged)?;
        for record in records {
            places.apply(found.number, record, facts).map_err(damaged)?;
        }
        at = end;
    }
    Ok(at)
}

/// What follows the last whole frame of a file is nothing, or one torn write.
fn look_behind(found: &Found, rest: &[u8], end: usize, bytes: &[u8]) -> Result<(), OpenError> {
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Ok(()) };
    if let Some(other) = frame::find(found.head.salt, end, bytes) {
        let what = format!("the frame at {end} fails its checksum, and at {other} another one follows");
        return Err(OpenError::Damaged { path: found.path.clone(), what });
    }
    tracing::info!(path = %found.path.display(), at = end, bytes = last + 1, "the last write was cut off");
    Ok(())
}
