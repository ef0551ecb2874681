//! A place in a container's logs, and the way on from it.

use super::LogOptions;
use super::record::Record;
use super::{segments, tail};
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PIECE_BYTES: usize = 64 << 10;
/// A record that is longer is none: the supervisor cuts lines at 16 KiB.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// How often a file may give way to a new one while the first one is looked for.
const MAX_ROTATIONS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor {
    folder: PathBuf,
    /// The run that is read; `None` before the container has run.
    run: Option<u32>,
    file: Option<File>,
    /// Go on to later runs.
    follow: bool,
    since: Option<Timestamp>,
    timestamps: bool,
    /// What may still be given out.
    limit: Option<u64>,
    /// The start of a record whose end was not there yet.
    pending: Vec<u8>,
    at_line_start: bool,
    done: bool,
}

/// The file that reading begins in, at the place where it does. A file that was rotated away since
/// it was listed is none of the log's any more: `list` is asked anew.
fn begin(list: impl Fn() -> io::Result<Vec<PathBuf>>, tail: Option<u64>) -> io::Result<Option<File>> {
    let open = |files: &[PathBuf]| -> io::Result<Option<File>> {
        let (index, offset) = tail.map_or(Ok((0, 0)), |lines| tail::start(files, lines))?;
        let Some(path) = files.get(index) else { return Ok(None) };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(file))
    };
    for _ in 0..MAX_ROTATIONS {
        match open(&list()?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    open(&list()?)
}

impl Cursor {
    /// Where `options` say that reading begins.
    pub(super) fn open(folder: &Path, options: &LogOptions) -> io::Result<Self> {
        let runs = segments::runs(folder)?;
        let run = if options.previous {
            let before = runs.len().checked_sub(2).and_then(|index| runs.get(index)).copied();
            let missing =
                || io::Error::new(io::ErrorKind::NotFound, "the container has no run before this one");
            Some(before.ok_or_else(missing)?)
        } else {
            runs.last().copied()
        };
        let mut cursor = Self {
            folder: folder.to_owned(),
            run,
            file: None,
            follow: options.follow && !options.previous,
            since: options.since,
            timestamps: options.timestamps,
            limit: options.limit_bytes,
            pending: Vec::new(),
            at_line_start: true,
            done: false,
        };
        if let Some(run) = run {
            cursor.file = begin(|| segments::files(folder, run), options.tail)?;
        }
        Ok(cursor)
    }

    /// True if nothing more can come.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece of text, or `None` if there is none now.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.done {
            let mut bytes = vec![0; PIECE_BYTES];
            let count = match &mut self.file {
                Some(file) => file.read(&mut bytes)?,
                None => 0,
            };
            if count == 0 {
                if self.advance()? {
                    continue;
                }
                return Ok(None);
            }
            let text = self.format(&bytes[..count]);
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Goes on to the file after this one; false if there is none yet.
    fn advance(&mut self) -> io::Result<bool> {
        let next = match self.next_file() {
            // The pod, and its logs with it, were removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.done = !self.folder.exists();
                return Ok(false);
            }
            next => next?,
        };
        let Some((run, path)) = next else {
            self.done = !self.follow || !self.folder.exists();
            return Ok(false);
        };
        // Whatever was written between our last read and the change of files is
        // in the old one, whose descriptor we have.
        if let Some(file) = &mut self.file
            && file.metadata()?.len() > file.stream_position()?
        {
            return Ok(true);
        }
        self.file = match File::open(path) {
            // It gave way to a new one just now: look again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => Some(file?),
        };
        if self.run != Some(run) {
            self.pending.clear();
        }
        self.run = Some(run);
        Ok(true)
    }

    /// The file after the one that is open: of its run, or of the next one.
    fn next_file(&self) -> io::Result<Option<(u32, PathBuf)>> {
        let first_of = |run| {
            Ok::<_, io::Error>(segments::files(&self.folder, run)?.into_iter().next().map(|path| (run, path)))
        };
        let Some(run) = self.run else {
            let newest = segments::runs(&self.folder)?.last().copied();
            return newest.map_or(Ok(None), first_of);
        };
        if let Some(file) = &self.file {
            let files = segments::files(&self.folder, run)?;
            let open = file.metadata()?;
            let is_open = |path: &PathBuf| {
                fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino()))
            };
            let next = match files.iter().position(is_open) {
                Some(index) => files.get(index + 1),
                // It was the oldest, and was dropped.
                None => files.first(),
            };
            if let Some(path) = next {
                return Ok(Some((run, path.clone())));
            }
        }
        if !self.follow {
            return Ok(None);
        }
        let later = segments::runs(&self.folder)?.into_iter().find(|&later| later > run);
        later.map_or(Ok(None), first_of)
    }

    /// The text of the records in `bytes`, after what was pending.
    fn format(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.pending.is_empty() {
                self.line(line, &mut out);
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.line(&whole, &mut out);
            }
            if self.done {
                return out;
            }
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_RECORD_BYTES {
            self.pending.clear();
        }
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(record) = Record::parse(line) else { return };
        if self.since.is_some_and(|since| !record.is_since(since)) {
            return;
        }
        let before = out.len();
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if record.is_whole {
            out.push(b'\n');
        }
        self.at_line_start = record.is_whole;
        if let Some(limit) = &mut self.limit {
            let allowed = usize::try_from(*limit).unwrap_or(usize::MAX).min(out.len() - before);
            out.truncate(before + allowed);
            *limit -= allowed as u64;
            self.done = *limit == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_file_that_is_rotated_away_between_listing_and_opening_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("0.log.2"), "two\n").unwrap();
        fs::write(at("0.log"), "2026-01-02T15:04:05.0Z stdout F three\n").unwrap();
        for (tail, first) in
            [(None, "two"), (Some(5), "two"), (Some(1), "2026-01-02T15:04:05.0Z stdout F three")]
        {
            let looks = Cell::new(0);
            let list = || {
                looks.set(looks.get() + 1);
                let dropped = (looks.get() == 1).then(|| at("0.log.1"));
                let end = if looks.get() == 2 { at("0.log.gone") } else { at("0.log") };
                Ok(dropped.into_iter().chain([at("0.log.2"), end]).collect())
            };
            let mut text = String::new();
            begin(list, tail).unwrap().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text.lines().next(), Some(first), "{tail:?}");
        }
        // What never comes back is an error, not a loop without an end.
        let lost = begin(|| Ok(vec![at("none")]), None);
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
