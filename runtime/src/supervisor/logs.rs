//! Containers' output as CRI log lines: `<time> <stream> <F|P> <text>`.
//!
//! A log that cannot be written is lost, never waited for: a full disk stops no container.

use crate::plan::LogLimits;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longer lines are cut into parts marked `P`.
const LINE_BYTES: usize = 16 * 1024;
/// As much of a log as stands for a termination message.
const LAST_WORDS_BYTES: usize = 2048;
const LAST_WORDS_LINES: usize = 80;
/// Runs whose logs are kept beside the present one's: a crash loop must not fill the disk.
const KEPT_RUNS: u32 = 4;

/// One of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The end of a line that has not come yet, of one stream.
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<u8>);

impl Pending {
    /// Appends to `out` the log lines of `input`, and keeps an unfinished last line.
    pub(crate) fn format(&mut self, stream: Stream, now: Timestamp, mut input: &[u8], out: &mut Vec<u8>) {
        let prefix = Prefix::new(stream, now);
        while let Some(end) = find_newline(input) {
            let (line, rest) = (&input[..end], &input[end + 1..]);
            input = rest;
            if self.0.is_empty() {
                prefix.line(line, out);
            } else {
                let mut whole = std::mem::take(&mut self.0);
                whole.extend_from_slice(line);
                prefix.line(&whole, out);
            }
        }
        while self.0.len() + input.len() >= LINE_BYTES {
            let taken = LINE_BYTES - self.0.len();
            self.0.extend_from_slice(&input[..taken]);
            prefix.part(b'P', &self.0, out);
            self.0 = Vec::new();
            input = &input[taken..];
        }
        self.0.extend_from_slice(input);
    }

    /// Appends to `out` what is left when the stream has ended without a newline.
    pub(crate) fn finish(&mut self, stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            Prefix::new(stream, now).part(b'P', &std::mem::take(&mut self.0), out);
        }
    }
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    // The compiler makes a vector search of this shape of loop.
    let mut chunks = bytes.chunks_exact(32);
    let mut at = 0;
    for chunk in chunks.by_ref() {
        if chunk.iter().fold(false, |found, byte| found | (*byte == b'\n')) {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(|byte| *byte == b'\n').map(|offset| at + offset)
}

/// What stands before each line of a batch.
struct Prefix(Vec<u8>);

impl Prefix {
    fn new(stream: Stream, now: Timestamp) -> Self {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Self(format!("{now:.9} {stream} ").into_bytes())
    }

    fn line(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut rest = line;
        while rest.len() > LINE_BYTES {
            self.part(b'P', &rest[..LINE_BYTES], out);
            rest = &rest[LINE_BYTES..];
        }
        self.part(b'F', rest, out);
    }

    fn part(&self, tag: u8, text: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.0.len() + text.len() + 3);
        out.extend_from_slice(&self.0);
        out.extend_from_slice(&[tag, b' ']);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// The log file of one run of a container.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// Nothing is kept without one.
    path: Option<PathBuf>,
    file: Option<File>,
    bytes: u64,
    /// The name's time of the file that gave way last.
    rotated_at: Option<Timestamp>,
    /// `None` if whoever asked for the file sees to it.
    limits: Option<LogLimits>,
}

impl LogFile {
    /// `<folder>/<run>.log`, continued if it exists. Logs of runs long ago are gone.
    pub(crate) fn open(folder: &Path, run: u32, limits: LogLimits) -> Self {
        let path = Some(folder.join(format!("{run}.log")));
        let mut log = Self { path, file: None, bytes: 0, rotated_at: None, limits: Some(limits) };
        let _ = fs::create_dir_all(folder);
        let _ = log.reopen();
        drop_old_runs(folder, run);
        log
    }

    /// This file, which others rotate.
    pub(crate) fn at(path: &Path) -> Self {
        let mut log =
            Self { path: Some(path.to_owned()), file: None, bytes: 0, rotated_at: None, limits: None };
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        let _ = log.reopen();
        log
    }

    /// Keeps nothing.
    pub(crate) fn nowhere() -> Self {
        Self { path: None, file: None, bytes: 0, rotated_at: None, limits: None }
    }

    /// What comes from now on is written to the file of that name, a new one if it was moved away.
    ///
    /// # Errors
    /// If it cannot be opened; the one before then stands.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Whole lines, in one write if the disk takes them.
    pub(crate) fn append(&mut self, lines: &[u8], now: Timestamp) {
        if lines.is_empty() || (self.file.is_none() && self.reopen().is_err()) {
            return;
        }
        if let Some(file) = &mut self.file {
            match file.write_all(lines) {
                Ok(()) => self.bytes += lines.len() as u64,
                Err(_) => self.file = None,
            }
        }
        if let Some(limits) = self.limits.filter(|limits| self.bytes >= limits.file_bytes) {
            self.rotate(now);
            self.drop_oldest(limits.files);
        }
    }

    /// The end of what was written: 2048 bytes or 80 lines, whichever is less.
    pub(crate) fn last_words(&self) -> String {
        let mut text = Vec::new();
        let Some(path) = &self.path else { return String::new() };
        let read = File::open(path).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(8 * LAST_WORDS_BYTES as u64)))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&text);
        // `<time> <stream> <F|P> <text>`; the first line may be cut.
        let said = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect::<Vec<_>>();
        let lines = said[said.len().saturating_sub(LAST_WORDS_LINES)..].join("\n");
        let from = lines.len().saturating_sub(LAST_WORDS_BYTES);
        let from = (from..lines.len()).find(|at| lines.is_char_boundary(*at)).unwrap_or(lines.len());
        lines[from..].to_owned()
    }

    fn rotate(&mut self, now: Timestamp) {
        let Some(path) = &self.path else { return };
        let after = |at: Timestamp| at.checked_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(at);
        // Several can give way at what is one time to us, or at one before it: a name is always
        // after the last one, which may be gone already.
        let mut at = self.rotated_at.map_or(now, |last| after(last).max(now));
        let named = |at: Timestamp| {
            let mut old = path.clone().into_os_string();
            old.push(at.strftime(".%Y%m%d-%H%M%S%.9f").to_string());
            old
        };
        while Path::new(&named(at)).exists() && after(at) > at {
            at = after(at);
        }
        let old = named(at);
        if fs::rename(path, old).is_ok() {
            self.rotated_at = Some(at);
            self.file = None;
            let _ = self.reopen();
        }
        self.bytes = 0;
    }

    /// Of all files, so many are left.
    fn drop_oldest(&self, files: u32) {
        let Some(path) = &self.path else { return };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
        let prefix = format!("{}.", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut old: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        old.sort();
        let kept = usize::try_from(files.saturating_sub(1)).unwrap_or(usize::MAX);
        for path in old.iter().rev().skip(kept) {
            let _ = fs::remove_file(path);
        }
    }
}

fn drop_old_runs(folder: &Path, run: u32) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once(".log")?.0.parse::<u32>().ok());
        if number.is_some_and(|number| number + KEPT_RUNS < run) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_keeps_the_logs_of_its_last_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("other"), "").expect("write");
        for run in 0..20 {
            let mut log = LogFile::open(folder.path(), run, LogLimits::default());
            log.append(&vec![b'x'; 11 * 1024 * 1024], Timestamp::UNIX_EPOCH);
        }
        let entries = fs::read_dir(folder.path()).expect("read");
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let (open, rotated): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(".log"));
        assert_eq!(open, ["15.log", "16.log", "17.log", "18.log", "19.log"]);
        assert_eq!(rotated.len(), 6, "one of each run, and what is not ours: {rotated:?}");
    }

    #[test]
    fn many_files_give_way_at_one_time_and_the_newest_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = LogLimits { file_bytes: 4, files: 3 };
        let mut log = LogFile::open(folder.path(), 0, limits);
        for number in 10..60 {
            log.append(format!("{number}!!\n").as_bytes(), Timestamp::UNIX_EPOCH);
            log.append(format!("{number}??\n").as_bytes(), Timestamp::UNIX_EPOCH);
        }
        let entries = fs::read_dir(folder.path()).expect("read");
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let kept = paths.iter().map(|path| fs::read_to_string(path).expect("read"));
        assert_eq!(kept.collect::<Vec<_>>(), ["", "59!!\n", "59??\n"]);
    }

    fn lines(pending: &mut Pending, input: &[u8]) -> String {
        let mut out = Vec::new();
        pending.format(Stream::Stdout, Timestamp::UNIX_EPOCH, input, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_line_has_time_stream_and_tag() {
        let mut pending = Pending::default();
        assert_eq!(
            lines(&mut pending, b"one\n\ntw"),
            "1970-01-01T00:00:00.000000000Z stdout F one\n1970-01-01T00:00:00.000000000Z stdout F \n"
        );
        assert_eq!(lines(&mut pending, b"o\n"), "1970-01-01T00:00:00.000000000Z stdout F two\n");
    }

    #[test]
    fn text_without_a_newline_is_a_part_at_the_end() {
        let mut pending = Pending::default();
        assert_eq!(lines(&mut pending, b"end"), "");
        let mut out = Vec::new();
        pending.finish(Stream::Stderr, Timestamp::UNIX_EPOCH, &mut out);
        assert_eq!(out, b"1970-01-01T00:00:00.000000000Z stderr P end\n");
        out.clear();
        pending.finish(Stream::Stderr, Timestamp::UNIX_EPOCH, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn long_lines_are_cut_and_nothing_is_lost_whatever_the_reads() {
        let mut text = vec![b'x'; LINE_BYTES * 2 + 100];
        text.extend_from_slice(b"\nshort\n");
        for size in [1, 7, 4096, LINE_BYTES - 1, LINE_BYTES, LINE_BYTES + 1, text.len()] {
            let mut pending = Pending::default();
            let mut out = String::new();
            for piece in text.chunks(size) {
                out.push_str(&lines(&mut pending, piece));
            }
            let mut whole = String::new();
            for line in out.lines() {
                let mut words = line.splitn(4, ' ').skip(2);
                let tag = words.next().expect("tag");
                let part = words.next().expect("text");
                assert!(part.len() <= LINE_BYTES, "read size {size}");
                whole.push_str(part);
                if tag == "F" {
                    whole.push('\n');
                }
            }
            assert_eq!(whole.as_bytes(), text, "read size {size}");
        }
    }

    #[test]
    fn newlines_are_found_at_every_place() {
        for length in 0..100 {
            let mut bytes = vec![b'a'; length];
            assert_eq!(find_newline(&bytes), None);
            for at in 0..length {
                bytes[at] = b'\n';
                assert_eq!(find_newline(&bytes), Some(at));
                bytes[at] = b'a';
            }
        }
    }

    #[test]
    fn a_long_file_gives_way_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = LogLimits { file_bytes: 10 << 20, files: 3 };
        let mut log = LogFile::open(folder.path(), 0, limits);
        let batch = vec![b'x'; 1024 * 1024];
        for second in 0..70_i64 {
            log.append(&batch, Timestamp::from_second(second).expect("a time"));
        }
        let count = fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(count, 3);
        assert!(fs::metadata(folder.path().join("0.log")).expect("present").len() < limits.file_bytes);
    }
}
