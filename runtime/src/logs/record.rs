//! One line of a log file.

use jiff::Timestamp;

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// RFC 3339.
    pub(super) time: &'a str,
    /// False for a part that goes on in the next record.
    pub(super) is_whole: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record in `line`, which has no newline; `None` if it is none.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = split(line)?;
        let (stream, rest) = split(rest)?;
        let (tag, text) = split(rest)?;
        if !matches!(stream, b"stdout" | b"stderr") || time.is_empty() {
            return None;
        }
        // Tags after the first are for the future.
        let is_whole = match tag.split(|&byte| byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { time: std::str::from_utf8(time).ok()?, is_whole, text })
    }

    /// True if it was written at `since` or later; also if that cannot be told.
    pub(super) fn is_since(&self, since: Timestamp) -> bool {
        self.time.parse::<Timestamp>().map_or(true, |time| time >= since)
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
