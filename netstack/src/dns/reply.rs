//! Writes an answer, record by record, into a buffer that is used again. Pure.

use super::code::{CNAME, HEADER, IN, RECURSION_AVAILABLE, RESPONSE, SAFE_UDP, TRUNCATED};
use super::name;
use super::question::{Head, Question};

/// Bytes of the OPT record at the end of an answer.
const OPT_BYTES: usize = 11;
/// The longest message that TCP can carry.
pub(super) const TCP_LIMIT: usize = u16::MAX as usize;
/// Names that were written, for others to point to, at most.
const REMEMBERED: usize = 8;

/// The parts of a message that hold records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// What a record holds, beside its owner's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'r> {
    pub(super) kind: u16,
    pub(super) ttl: u32,
    /// Without pointers to other places of the message.
    pub(super) data: &'r [u8],
}

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    question: &'a Question<'a>,
    limit: usize,
    counts: [u16; 3],
    is_full: bool,
    /// Names beside the question's, and where they stand.
    written: Vec<(usize, Vec<u8>)>,
}

impl<'a> Reply<'a> {
    /// An answer to `question` without records, of at most `limit` bytes when it is finished.
    pub(super) fn new(question: &'a Question<'a>, limit: usize, out: &'a mut Vec<u8>) -> Self {
        let spare = if question.edns.is_some() { OPT_BYTES } else { 0 };
        let limit = limit.min(TCP_LIMIT) - spare;
        let mut reply = Self { out, question, limit, counts: [0; 3], is_full: false, written: Vec::new() };
        reply.clear();
        reply
    }

    /// There are no records any more.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.out.resize(HEADER, 0);
        self.out.extend_from_slice(self.question.raw);
        self.counts = [0; 3];
        self.is_full = false;
        self.written.clear();
    }

    /// The record is written, if there is room. Records come in the order of their sections. An
    /// answer in which one of the answer's own has no room says so.
    pub(super) fn push(&mut self, section: Section, owner: &[u8], content: Content<'_>) {
        if self.is_full {
            return;
        }
        let start = self.out.len();
        let known = self.put_name(owner);
        let head = self.out.len();
        self.out.extend_from_slice(&content.kind.to_be_bytes());
        self.out.extend_from_slice(&IN.to_be_bytes());
        self.out.extend_from_slice(&content.ttl.to_be_bytes());
        self.out.extend_from_slice(&u16::try_from(content.data.len()).unwrap_or(0).to_be_bytes());
        let data = self.out.len();
        self.out.extend_from_slice(content.data);
        if self.out.len() > self.limit || content.data.len() > TCP_LIMIT {
            self.out.truncate(start);
            self.is_full = section != Section::Additional;
            return;
        }
        debug_assert_eq!(data, head + 10, "type, class, time and length");
        if !known {
            self.remember(start, owner);
        }
        if content.kind == CNAME {
            self.remember(data, content.data);
        }
        self.counts[section as usize] += 1;
    }

    fn remember(&mut self, at: usize, name: &[u8]) {
        if self.written.len() < REMEMBERED && at < 0x4000 {
            self.written.push((at, name.to_vec()));
        }
    }

    /// True if it was a pointer to the whole of a name.
    fn put_name(&mut self, owner: &[u8]) -> bool {
        let asked = self.question.name();
        let found = if owner == asked {
            Some(HEADER)
        } else {
            self.written.iter().find(|(_, name)| name == owner).map(|(at, _)| *at)
        };
        if let Some(at) = found {
            self.put_pointer(at);
            return true;
        }
        // Or it ends as the question does.
        for start in name::starts(owner) {
            if name::before(asked, &owner[start..]).is_some() {
                self.out.extend_from_slice(&owner[..start]);
                self.put_pointer(HEADER + asked.len() - (owner.len() - start));
                return false;
            }
        }
        self.out.extend_from_slice(owner);
        false
    }

    fn put_pointer(&mut self, at: usize) {
        let pointer = 0xc000 | u16::try_from(at).unwrap_or(0);
        self.out.extend_from_slice(&pointer.to_be_bytes());
    }

    /// The message is whole, with these of the header's flags.
    pub(super) fn finish(self, flags: u16, code: u8) {
        let head = self.question.head;
        let truncated = if self.is_full { TRUNCATED } else { 0 };
        let edns = self.question.edns.map(|edns| edns.dnssec);
        finish(self.out, head, (flags | truncated, code), (1, self.counts), edns);
    }
}

/// An answer without question and records, for what could not be read.
pub(super) fn refuse(head: Head, code: u8, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER, 0);
    // A code above 15 has its upper part in an OPT record.
    finish(out, head, (0, code), (0, [0; 3]), (code > 15).then_some(false));
}

fn finish(
    out: &mut Vec<u8>,
    head: Head,
    (flags, code): (u16, u8),
    (questions, counts): (u16, [u16; 3]),
    edns: Option<bool>,
) {
    let flags = RESPONSE | RECURSION_AVAILABLE | head.repeated() | flags | u16::from(code & 0xf);
    let mut counts = [questions, counts[0], counts[1], counts[2]];
    if let Some(dnssec) = edns {
        counts[3] += 1;
        let [high, low] = SAFE_UDP.to_be_bytes();
        let flag = if dnssec { 0x80 } else { 0 };
        out.extend_from_slice(&[0, 0, 41, high, low, code >> 4, 0, flag, 0, 0, 0]);
    }
    let words = [head.id, flags, counts[0], counts[1], counts[2], counts[3]];
    for (place, word) in out[..HEADER].chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}
