//! SPDY/3.1 frames, from bytes and to bytes. Pure; never holds more than a limit of what a peer
//! sends, whatever it claims.
//!
//! Source: SPDY protocol, drafts 3 and 3.1.

use super::dictionary::dictionary;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes before the content of every frame.
const HEAD_BYTES: usize = 8;
/// The longest control frame that is read.
const MAX_CONTROL_BYTES: usize = 64 * 1024;
/// The longest header block, uncompressed.
const MAX_HEADER_BYTES: usize = 256 * 1024;
/// Longer data frames are handed on in parts.
const MAX_DATA_BYTES: usize = 64 * 1024;

const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Names in lower case, and values.
pub(crate) type Headers = Vec<(String, String)>;

/// One frame, or a part of a data frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A stream begins; with `fin` its opener will send nothing on it.
    SynStream { stream: u32, fin: bool, headers: Headers },
    /// The stream was taken.
    SynReply { stream: u32, fin: bool, headers: Headers },
    /// The stream is over, at once.
    RstStream { stream: u32, status: u32 },
    /// Identifiers and values.
    Settings(Vec<(u32, u32)>),
    /// To be sent back as it is.
    Ping(u32),
    /// No more streams are taken.
    GoAway { last: u32, status: u32 },
    /// More headers of a stream.
    Headers { stream: u32, fin: bool, headers: Headers },
    /// So many more bytes may be sent.
    WindowUpdate { stream: u32, delta: u32 },
    /// With `fin` the last on its stream.
    Data { stream: u32, fin: bool, bytes: Vec<u8> },
}

/// What a peer sent is no SPDY/3.1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a control frame of version {0}")]
    Version(u16),
    #[error("a control frame of {0} bytes")]
    TooLong(usize),
    #[error("a frame of type {0} that is too short")]
    TooShort(u16),
    #[error("a header block that cannot be uncompressed")]
    Compression,
    #[error("headers that are no text, or longer than they say")]
    Headers,
    #[error("headers of more than {MAX_HEADER_BYTES} bytes")]
    TooManyHeaders,
}

/// What is left of a data frame that is handed on in parts.
#[derive(Debug, Clone, Copy)]
struct Rest {
    stream: u32,
    fin: bool,
    bytes: usize,
}

/// Frames from bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    input: Vec<u8>,
    rest: Option<Rest>,
    headers: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { input: Vec::new(), rest: None, headers: Decompress::new(true) }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

/// The highest bit is no part of a number.
fn u31_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32_at(bytes, at)? & 0x7fff_ffff)
}

impl Decoder {
    /// Takes what has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next frame, if it is there.
    ///
    /// # Errors
    /// [`FrameError`]; the connection cannot be gone on with.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if self.rest.is_some() {
                return Ok(self.part());
            }
            let (Some(first), Some(second)) = (u32_at(&self.input, 0), u32_at(&self.input, 4)) else {
                return Ok(None);
            };
            let [flags, length @ ..] = second.to_be_bytes();
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if first >> 31 == 0 {
                self.input.drain(..HEAD_BYTES);
                self.rest = Some(Rest { stream: first, fin: flags & FLAG_FIN != 0, bytes: length });
                continue;
            }
            let [version_high, version_low, kind_high, kind_low] = first.to_be_bytes();
            let version = u16::from_be_bytes([version_high & 0x7f, version_low]);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > MAX_CONTROL_BYTES {
                return Err(FrameError::TooLong(length));
            }
            if self.input.len() < HEAD_BYTES + length {
                return Ok(None);
            }
            let content: Vec<u8> = self.input.drain(..HEAD_BYTES + length).skip(HEAD_BYTES).collect();
            let kind = u16::from_be_bytes([kind_high, kind_low]);
            // What is not known is left out, as the protocol says.
            if let Some(frame) = self.control(kind, flags, &content)? {
                return Ok(Some(frame));
            }
        }
    }

    fn part(&mut self) -> Option<Frame> {
        let Rest { stream, fin, bytes } = self.rest?;
        let here = bytes.min(self.input.len()).min(MAX_DATA_BYTES);
        if here == 0 && bytes > 0 {
            return None;
        }
        let left = bytes - here;
        self.rest = (left > 0).then_some(Rest { stream, fin, bytes: left });
        let bytes = self.input.drain(..here).collect();
        Some(Frame::Data { stream, fin: fin && left == 0, bytes })
    }

    fn control(&mut self, kind: u16, flags: u8, content: &[u8]) -> Result<Option<Frame>, FrameError> {
        let short = || FrameError::TooShort(kind);
        let fin = flags & FLAG_FIN != 0;
        let first = || u31_at(content, 0).ok_or_else(short);
        let second = || u32_at(content, 4).ok_or_else(short);
        let after = |count: usize| content.get(count..).ok_or_else(short);
        Ok(Some(match kind {
            SYN_STREAM => {
                let (stream, block) = (first()?, after(10)?);
                Frame::SynStream { stream, fin, headers: self.headers(block)? }
            }
            SYN_REPLY => {
                let (stream, block) = (first()?, after(4)?);
                Frame::SynReply { stream, fin, headers: self.headers(block)? }
            }
            HEADERS => {
                let (stream, block) = (first()?, after(4)?);
                Frame::Headers { stream, fin, headers: self.headers(block)? }
            }
            RST_STREAM => Frame::RstStream { stream: first()?, status: second()? },
            SETTINGS => {
                let entries = after(4)?.chunks_exact(8);
                let entry = |entry: &[u8]| Some((u32_at(entry, 0)? & 0x00ff_ffff, u32_at(entry, 4)?));
                Frame::Settings(entries.filter_map(entry).collect())
            }
            PING => Frame::Ping(u32_at(content, 0).ok_or_else(short)?),
            GOAWAY => Frame::GoAway { last: first()?, status: second()? },
            WINDOW_UPDATE => {
                Frame::WindowUpdate { stream: first()?, delta: u31_at(content, 4).ok_or_else(short)? }
            }
            _ => return Ok(None),
        }))
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        let text = inflate(&mut self.headers, block)?;
        parse(&text).ok_or(FrameError::Headers)
    }
}

fn inflate(state: &mut Decompress, block: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(1024);
    let begin = state.total_in();
    loop {
        let used = usize::try_from(state.total_in() - begin).map_err(|_| FrameError::Compression)?;
        let input = block.get(used..).unwrap_or_default();
        let before = (state.total_in(), out.len());
        match state.decompress_vec(input, &mut out, FlushDecompress::Sync) {
            Ok(Status::StreamEnd) => return Ok(out),
            Ok(Status::Ok | Status::BufError) => {}
            Err(error) if error.needs_dictionary().is_some() => {
                state.set_dictionary(&dictionary()).map_err(|_| FrameError::Compression)?;
                continue;
            }
            Err(_) => return Err(FrameError::Compression),
        }
        if out.len() > MAX_HEADER_BYTES {
            return Err(FrameError::TooManyHeaders);
        }
        if out.len() == out.capacity() {
            out.reserve(out.len().max(1024));
        } else if (state.total_in(), out.len()) == before {
            return Ok(out);
        }
    }
}

/// The pairs of an uncompressed block; `None` if it is shorter than it says, or no text.
fn parse(block: &[u8]) -> Option<Headers> {
    let mut at = 4;
    let count = usize::try_from(u32_at(block, 0)?).ok()?;
    // A pair has eight bytes at least.
    if count > block.len() / 8 {
        return None;
    }
    let mut text = || {
        let length = usize::try_from(u32_at(block, at)?).ok()?;
        let text = block.get(at + 4..(at + 4).checked_add(length)?)?;
        at += 4 + length;
        String::from_utf8(text.to_vec()).ok()
    };
    (0..count).map(|_| Some((text()?.to_ascii_lowercase(), text()?))).collect()
}

/// Bytes from frames.
#[derive(Debug)]
pub(crate) struct Encoder {
    headers: Compress,
    begun: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { headers: Compress::new(Compression::default(), true), begun: false }
    }
}

impl Encoder {
    /// Appends the frame to `out`. What does not fit into one frame, headers or data of more
    /// than 16 MiB, is cut.
    pub(crate) fn push(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let mut content = stream.to_be_bytes().to_vec();
                content.extend_from_slice(&[0; 6]);
                content.extend_from_slice(&self.block(headers));
                control(SYN_STREAM, *fin, &content, out);
            }
            Frame::SynReply { stream, fin, headers } | Frame::Headers { stream, fin, headers } => {
                let mut content = stream.to_be_bytes().to_vec();
                content.extend_from_slice(&self.block(headers));
                let kind = if matches!(frame, Frame::SynReply { .. }) { SYN_REPLY } else { HEADERS };
                control(kind, *fin, &content, out);
            }
            Frame::RstStream { stream, status } => two(RST_STREAM, *stream, *status, out),
            Frame::Settings(entries) => {
                let count = u32::try_from(entries.len()).unwrap_or(0);
                let mut content = count.to_be_bytes().to_vec();
                for (identifier, value) in entries {
                    content.extend_from_slice(&identifier.to_be_bytes());
                    content.extend_from_slice(&value.to_be_bytes());
                }
                control(SETTINGS, false, &content, out);
            }
            Frame::Ping(number) => control(PING, false, &number.to_be_bytes(), out),
            Frame::GoAway { last, status } => two(GOAWAY, *last, *status, out),
            Frame::WindowUpdate { stream, delta } => two(WINDOW_UPDATE, *stream, *delta, out),
            Frame::Data { stream, fin, bytes } => {
                out.extend_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
                rest(*fin, bytes, out);
            }
        }
    }

    fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut text = u32::try_from(headers.len()).unwrap_or(0).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        if !self.begun {
            self.begun = true;
            // Without it the peer could not read a word, and would say so.
            let _ = self.headers.set_dictionary(&dictionary());
        }
        let mut out = Vec::with_capacity(text.len() + 64);
        let begin = self.headers.total_in();
        loop {
            let used = usize::try_from(self.headers.total_in() - begin).unwrap_or(usize::MAX);
            let input = text.get(used..).unwrap_or_default();
            let room = out.capacity() - out.len();
            let done = self.headers.compress_vec(input, &mut out, FlushCompress::Sync);
            // Room that is left means that everything was flushed.
            if done.is_err() || (room > 0 && out.len() < out.capacity()) {
                return out;
            }
            out.reserve(out.len().max(64));
        }
    }
}

fn control(kind: u16, fin: bool, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(VERSION | 0x8000).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    rest(fin, content, out);
}

fn two(kind: u16, first: u32, second: u32, out: &mut Vec<u8>) {
    let content = [first.to_be_bytes(), second.to_be_bytes()].concat();
    control(kind, false, &content, out);
}

fn rest(fin: bool, content: &[u8], out: &mut Vec<u8>) {
    let content = &content[..content.len().min(0x00ff_ffff)];
    let length = u32::try_from(content.len()).unwrap_or(0);
    let flags = if fin { u32::from(FLAG_FIN) << 24 } else { 0 };
    out.extend_from_slice(&(flags | length).to_be_bytes());
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn all() -> Vec<Frame> {
        vec![
            Frame::SynStream { stream: 1, fin: false, headers: headers(&[("streamtype", "error")]) },
            Frame::SynStream {
                stream: 3,
                fin: true,
                headers: headers(&[("streamtype", "stdin"), ("x", "")]),
            },
            Frame::SynReply { stream: 1, fin: false, headers: headers(&[]) },
            Frame::Headers { stream: 3, fin: false, headers: headers(&[("a", &"long ".repeat(5000))]) },
            Frame::Settings(vec![(7, 65536), (4, 100)]),
            Frame::Ping(2),
            Frame::WindowUpdate { stream: 1, delta: 4096 },
            Frame::Data { stream: 1, fin: false, bytes: b"hello".to_vec() },
            Frame::Data { stream: 1, fin: true, bytes: Vec::new() },
            Frame::RstStream { stream: 3, status: 5 },
            Frame::GoAway { last: 3, status: 0 },
        ]
    }

    fn decoded(bytes: &[u8], size: usize) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(frame) = decoder.next().expect("frames") {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn what_is_written_is_read_whatever_the_pieces() {
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        all().iter().for_each(|frame| encoder.push(frame, &mut bytes));
        assert_eq!(decoded(&bytes, bytes.len()), all());
        for size in [1, 3, 7, 64] {
            let whole: Vec<_> = decoded(&bytes, size)
                .into_iter()
                .filter(|frame| !matches!(frame, Frame::Data { .. }))
                .collect();
            let wanted: Vec<_> =
                all().into_iter().filter(|frame| !matches!(frame, Frame::Data { .. })).collect();
            assert_eq!(whole, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn a_long_data_frame_comes_in_parts_and_ends_once() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut bytes = Vec::new();
        Encoder::default().push(&Frame::Data { stream: 5, fin: true, bytes: content.clone() }, &mut bytes);
        let mut read = Vec::new();
        let mut ends = 0;
        for frame in decoded(&bytes, 10_000) {
            let Frame::Data { stream: 5, fin, bytes } = frame else { panic!("{frame:?}") };
            read.extend(bytes);
            ends += usize::from(fin);
        }
        assert_eq!((read, ends), (content, 1));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(b"GET / HTTP/1.1\r\n\r\n");
        // Read as a data frame, which is never whole.
        assert!(decoder.next().expect("no error").is_some());
        let mut decoder = Decoder::default();
        decoder.push(&[0x80, 2, 0, 1, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(FrameError::Version(2)));
        let mut decoder = Decoder::default();
        decoder.push(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong(0x00ff_ffff)));
        let mut decoder = Decoder::default();
        decoder.push(&[0x80, 3, 0, 3, 0, 0, 0, 1, 0]);
        assert_eq!(decoder.next(), Err(FrameError::TooShort(3)));
        let mut decoder = Decoder::default();
        decoder.push(&[0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!(decoder.next(), Err(FrameError::Compression));
    }

    #[test]
    fn a_small_block_does_not_become_a_large_one() {
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        let large = headers(&[("a", &"x".repeat(MAX_HEADER_BYTES + 1))]);
        encoder.push(&Frame::SynReply { stream: 1, fin: false, headers: large }, &mut bytes);
        assert!(bytes.len() < MAX_CONTROL_BYTES, "it is compressed");
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert_eq!(decoder.next(), Err(FrameError::TooManyHeaders));
    }
}
