//! A packet that asks → what it asks. Pure; whatever the bytes are, nothing worse than a refusal.

use super::code::{
    ANY_CLASS, BAD_VERSION, FORMAT_ERROR, HEADER, IN, LABEL, NAME, NOT_IMPLEMENTED, OPT, PLAIN_UDP,
    RECURSION_DESIRED, REFUSED, RESPONSE, SAFE_UDP, TRANSFERS,
};

/// What a client asks.
#[derive(Debug, Clone)]
pub(super) struct Question<'p> {
    /// The message's own number, and its flags.
    pub(super) head: Head,
    /// The section as it was sent: name, type and class.
    pub(super) raw: &'p [u8],
    /// In lower case; so many bytes of it.
    name: [u8; NAME],
    length: usize,
    /// The type of records.
    pub(super) kind: u16,
    /// What the client says of itself, if it does.
    pub(super) edns: Option<Edns>,
}

/// The parts of a header that answers repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u16,
    pub(super) flags: u16,
}

/// The client's side of RFC 6891.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// Bytes that it takes by UDP.
    pub(super) payload: u16,
    /// Wants signatures.
    pub(super) dnssec: bool,
}

/// Why a packet gets no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// Nobody would know what to do with an answer.
    Ignored,
    /// It is told why.
    Refused(Head, u8),
}

impl<'p> Question<'p> {
    /// What `packet` asks.
    ///
    /// # Errors
    /// If it is no question, or one that nobody answers here.
    pub(super) fn read(packet: &'p [u8]) -> Result<Self, Unanswerable> {
        let mut reader = Reader { packet, at: 0 };
        let mut word = || reader.u16();
        let head = (word(), word(), word(), word(), word(), word());
        let (Some(id), Some(flags), Some(questions), Some(answers), Some(authorities), Some(more)) = head
        else {
            return Err(Unanswerable::Ignored);
        };
        if flags & RESPONSE != 0 {
            return Err(Unanswerable::Ignored);
        }
        let head = Head { id, flags };
        let refused = |code| Unanswerable::Refused(head, code);
        if flags >> 11 & 0xf != 0 {
            return Err(refused(NOT_IMPLEMENTED));
        }
        if questions != 1 {
            return Err(refused(FORMAT_ERROR));
        }
        let (mut name, mut length) = ([0; NAME], 0);
        let (kind, class) = reader.question(&mut name, &mut length).ok_or_else(|| refused(FORMAT_ERROR))?;
        let raw = &packet[HEADER..reader.at];
        let counts = (u32::from(answers) + u32::from(authorities), u32::from(more));
        let edns = reader.edns(counts).ok_or_else(|| refused(FORMAT_ERROR))?;
        if edns.is_some_and(|(_, version)| version != 0) {
            return Err(refused(BAD_VERSION));
        }
        if !matches!(class, IN | ANY_CLASS) || TRANSFERS.contains(&kind) || matches!(kind, 0 | OPT) {
            return Err(refused(REFUSED));
        }
        Ok(Self { head, raw, name, length, kind, edns: edns.map(|(edns, _)| edns) })
    }

    /// The name that is asked for, in wire form, in lower case.
    pub(super) fn name(&self) -> &[u8] {
        &self.name[..self.length]
    }

    /// Bytes that an answer by UDP may have.
    pub(super) fn udp_limit(&self) -> usize {
        let said = self.edns.map_or(0, |edns| usize::from(edns.payload.min(SAFE_UDP)));
        said.max(PLAIN_UDP)
    }

    /// The client wants signatures.
    pub(super) fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }
}

impl Head {
    /// The flags that an answer repeats.
    pub(super) const fn repeated(self) -> u16 {
        self.flags & (RECURSION_DESIRED | 0xf << 11)
    }
}

struct Reader<'p> {
    packet: &'p [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.packet.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// Type and class; the name goes to `name`.
    fn question(&mut self, name: &mut [u8; NAME], length: &mut usize) -> Option<(u16, u16)> {
        loop {
            let size = self.u8()?;
            // There is nothing yet to which it could point.
            if usize::from(size) > LABEL {
                return None;
            }
            let label = self.packet.get(self.at..self.at + usize::from(size))?;
            let place = name.get_mut(*length..*length + 1 + label.len())?;
            place[0] = size;
            for (to, from) in place[1..].iter_mut().zip(label) {
                *to = from.to_ascii_lowercase();
            }
            *length += 1 + label.len();
            self.at += label.len();
            if size == 0 {
                break;
            }
        }
        Some((self.u16()?, self.u16()?))
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                size if usize::from(size) <= LABEL => self.at += usize::from(size),
                size if size >= 0xc0 => return self.u8().map(drop),
                _ => return None,
            }
        }
    }

    /// The OPT record among those that follow, if there is one, and its version.
    fn edns(&mut self, (before, more): (u32, u32)) -> Option<Option<(Edns, u8)>> {
        let mut found = None;
        for number in 0..before + more {
            let start = self.at;
            self.skip_name()?;
            let is_root = self.at == start + 1;
            let (kind, class) = (self.u16()?, self.u16()?);
            let (_high, version, flags) = (self.u8()?, self.u8()?, self.u16()?);
            let length = usize::from(self.u16()?);
            self.at += length;
            if self.at > self.packet.len() {
                return None;
            }
            if kind == OPT {
                if number < before || !is_root || found.is_some() {
                    return None;
                }
                found = Some((Edns { payload: class, dnssec: flags & 1 << 15 != 0 }, version));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns as ProtoEdns, Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    fn message(name: &str) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::AAAA));
        message
    }

    #[test]
    fn a_question_is_read() {
        let mut asked = message("Web.Default.svc.Cluster.LOCAL.");
        let mut edns = ProtoEdns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        asked.set_edns(edns);
        let packet = asked.to_vec().unwrap();
        let question = Question::read(&packet).unwrap();
        assert_eq!(question.name(), b"\x03web\x07default\x03svc\x07cluster\x05local\0");
        assert_eq!(&question.raw[..4], b"\x03Web", "as it was sent");
        assert_eq!((question.head.id, question.head.flags, question.kind), (7, RECURSION_DESIRED, 28));
        assert_eq!(question.edns, Some(Edns { payload: 4096, dnssec: true }));
        assert_eq!(question.udp_limit(), 1232);
        let plain = message("web.").to_vec().unwrap();
        assert_eq!(Question::read(&plain).unwrap().udp_limit(), 512);
    }

    #[test]
    fn what_is_no_question_is_refused_with_its_reason() {
        let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = message("web.").to_vec().unwrap();
            change(&mut packet);
            match Question::read(&packet).unwrap_err() {
                Unanswerable::Refused(_, code) => Some(code),
                Unanswerable::Ignored => None,
            }
        };
        assert_eq!(refusal(&|packet| packet.truncate(11)), None);
        assert_eq!(refusal(&|packet| packet[2] |= 0x80), None, "answers are not answered");
        assert_eq!(refusal(&|packet| packet[2] |= 0x20), Some(NOT_IMPLEMENTED), "NOTIFY");
        assert_eq!(refusal(&|packet| packet[5] = 2), Some(FORMAT_ERROR), "two questions");
        assert_eq!(refusal(&|packet| packet[12] = 0xc0), Some(FORMAT_ERROR), "a pointer");
        assert_eq!(refusal(&|packet| packet.truncate(18)), Some(FORMAT_ERROR));
        assert_eq!(refusal(&|packet| packet[18] = 252), Some(REFUSED), "AXFR");
        assert_eq!(refusal(&|packet| packet[20] = 3), Some(REFUSED), "CHAOS");
        assert_eq!(refusal(&|packet| packet[11] = 1), Some(FORMAT_ERROR), "a record is missing");
        let opt = |version| vec![0, 0, 41, 4, 208, 0, version, 0, 0, 0, 0];
        let with = |version| {
            refusal(&|packet: &mut Vec<u8>| {
                packet[11] = 1;
                packet.extend(opt(version));
            })
        };
        assert_eq!(with(1), Some(BAD_VERSION));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80), plausible: bool) {
            let mut bytes = bytes;
            if plausible && bytes.len() >= 12 {
                let more = bytes[11] & 1;
                bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, more]);
            }
            if let Ok(question) = Question::read(&bytes) {
                prop_assert!(question.name().ends_with(&[0]));
                prop_assert!(bytes[12..].starts_with(question.raw));
            }
        }
    }
}
