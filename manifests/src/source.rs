//! The text of one file, and its lines.

use crate::parse::SourceFile;

/// The longest line that a finding keeps, in bytes.
const MAX_SHOWN_LINE: usize = 8 << 10;

/// A file that is text.
#[derive(Debug)]
pub(crate) struct Source<'f> {
    pub(crate) path: &'f str,
    pub(crate) text: &'f str,
}

/// A file that is no text, or none that is read: code, message, line, column.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl<'f> Source<'f> {
    /// The file as text, without its byte-order mark.
    pub(crate) fn new(file: &'f SourceFile) -> Result<Self, Unreadable> {
        let bytes = &file.content;
        if bytes.len() > crate::yaml::MAX_FILE_BYTES {
            let limit = crate::yaml::MAX_FILE_BYTES >> 20;
            let message = format!("the file has {} bytes; at most {limit} MiB are read", bytes.len());
            return Err(Unreadable { code: "file-too-large", message, line: 0, column: 0 });
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            let message = "the file is UTF-16; only UTF-8 is read".to_owned();
            return Err(Unreadable { code: "invalid-utf8", message, line: 1, column: 1 });
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let (line, column) = position(bytes, error.valid_up_to());
            let byte = bytes[error.valid_up_to()];
            let message = format!("byte 0x{byte:02x} is not UTF-8");
            Unreadable { code: "invalid-utf8", message, line, column }
        })?;
        if let Some(at) = bytes.iter().position(|b| *b == 0) {
            let (line, column) = position(bytes, at);
            return Err(Unreadable {
                code: "nul-byte",
                message: "a NUL stands in the text".to_owned(),
                line,
                column,
            });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Self { path: &file.path, text })
    }

    /// The line to show with a finding; none if it is too long to be of use.
    pub(crate) fn excerpt(&self, number: u32) -> Option<String> {
        self.line(number).filter(|line| line.len() <= MAX_SHOWN_LINE).map(str::to_owned)
    }

    /// The line with this number, from 1, without its end. Breaks are those of YAML.
    pub(crate) fn line(&self, number: u32) -> Option<&'f str> {
        let mut rest = self.text;
        for _ in 1..number {
            let at = rest.find(['\n', '\r'])?;
            rest = rest[at..].strip_prefix("\r\n").unwrap_or(&rest[at + 1..]);
        }
        Some(rest.split(['\n', '\r']).next().unwrap_or(rest))
    }
}

impl Source<'_> {
    /// The line to show with an error that no object is known for; none if the
    /// file may hold a Secret.
    pub(crate) fn shown_line(&self, number: u32) -> Option<String> {
        let secret = self.text.lines().any(|line| line.contains("kind") && line.contains("Secret"));
        if secret { None } else { self.excerpt(number) }
    }
}

/// Line and column, from 1, of the byte at `offset`.
fn position(bytes: &[u8], offset: usize) -> (u32, u32) {
    let before = &bytes[..offset];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}
