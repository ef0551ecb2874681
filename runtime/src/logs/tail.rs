//! Where the last lines of a log begin, found from its end.

use super::record::Record;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Read first; doubled until enough lines are found.
const BLOCK_BYTES: u64 = 64 << 10;

/// The file, by its place in `files`, and the offset in it, from which there
/// are `lines` lines to the end; the very start if there are fewer.
pub(super) fn start(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut left = lines;
    for (index, path) in files.iter().enumerate().rev() {
        match start_in(path, left)? {
            Found::At(offset) => return Ok((index, offset)),
            Found::Only(found) => left -= found,
        }
    }
    Ok((0, 0))
}

enum Found {
    At(u64),
    /// Fewer lines than wanted are in the whole file.
    Only(u64),
}

fn start_in(path: &Path, lines: u64) -> io::Result<Found> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(Found::At(end));
    }
    let mut block = BLOCK_BYTES;
    loop {
        let from = end.saturating_sub(block);
        let mut bytes = vec![0; usize::try_from(end - from).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, from)?;
        let ends = line_ends(&bytes, from == 0);
        let found = ends.len() as u64;
        // The line after this end is the first one wanted.
        if let Some(before) = found.checked_sub(lines + 1).and_then(|index| usize::try_from(index).ok()) {
            return Ok(Found::At(from + ends[before]));
        }
        if from == 0 {
            return Ok(if found == lines { Found::At(0) } else { Found::Only(found) });
        }
        block *= 2;
    }
}

/// Where lines end in `bytes`, counted from their start. Before the first
/// newline may be a cut record, unless `is_start`.
fn line_ends(bytes: &[u8], is_start: bool) -> Vec<u64> {
    let mut ends = Vec::new();
    let mut at = 0;
    let mut skip = !is_start;
    let mut unfinished = None;
    for record in bytes.split_inclusive(|&byte| byte == b'\n') {
        at += record.len() as u64;
        let Some(record) = record.strip_suffix(b"\n") else { break };
        if std::mem::take(&mut skip) {
            continue;
        }
        let Some(record) = Record::parse(record) else { continue };
        unfinished = (!record.is_whole).then_some(at);
        if record.is_whole {
            ends.push(at);
        }
    }
    // A last line without its newline is a line too.
    ends.extend(unfinished);
    ends
}
