//! Messages to and from other servers. Pure.

use super::cache::{Key, Record, Stored};
use super::code::{NAME_ERROR, NO_ERROR, SAFE_UDP, SOA};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name as ProtoName, RData, Record as ProtoRecord, RecordType};
use hickory_proto::serialize::binary::{
    BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder, NameEncoding,
};
use std::time::Duration;

/// The longest that an answer is kept. Source: CoreDNS' `cache`.
const MOST_LIFE: u32 = 3600;
/// The longest that "there is none" is kept. Source: CoreDNS' `cache`.
const MOST_NEGATIVE_LIFE: u32 = 1800;
/// How long a negative answer is kept by nobody's word.
const UNSIGNED_LIFE: u32 = 5;

/// What another server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// An answer.
    Answer(Stored),
    /// There is more than fits a datagram.
    Truncated,
    /// It cannot, or does not want to.
    Refused,
    /// It does not understand what goes beyond RFC 1035.
    Old,
}

/// A question for another server; nothing if it cannot be asked.
pub(super) fn question(key: &Key, id: u16, with_edns: bool) -> Option<Vec<u8>> {
    let (name, kind, dnssec) = key.parts();
    let name = ProtoName::read(&mut BinDecoder::new(name)).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::from(kind)));
    if with_edns {
        let mut edns = Edns::new();
        edns.set_max_payload(SAFE_UDP).set_dnssec_ok(dnssec);
        message.set_edns(edns);
    }
    message.to_vec().ok()
}

/// What `packet` says about that question; nothing if it is no answer to it.
pub(super) fn read(packet: &[u8], key: &Key, id: u16) -> Option<Said> {
    let message = Message::from_vec(packet).ok()?;
    let meta = &message.metadata;
    let [query] = &message.queries[..] else {
        // Who does not understand a question may leave it out.
        let is_old = meta.id == id && message.queries.is_empty() && u16::from(meta.response_code) == 1;
        return is_old.then_some(Said::Old);
    };
    let (name, kind, _) = key.parts();
    let is_same = meta.id == id
        && meta.message_type == MessageType::Response
        && meta.op_code == OpCode::Query
        && wire(query.name())?.as_ref() == name
        && u16::from(query.query_type()) == kind
        && query.query_class() == DNSClass::IN;
    if !is_same {
        return None;
    }
    let code = u16::from(meta.response_code);
    Some(match u8::try_from(code) {
        _ if meta.truncation => Said::Truncated,
        Ok(1) => Said::Old,
        Ok(code @ (NO_ERROR | NAME_ERROR)) => Said::Answer(stored(&message, code, kind)?),
        _ => Said::Refused,
    })
}

fn stored(message: &Message, code: u8, kind: u16) -> Option<Stored> {
    let all = |records: &[ProtoRecord]| records.iter().map(record).collect::<Option<Vec<_>>>();
    let answers = all(&message.answers)?;
    let is_negative = !answers.iter().any(|record| record.kind == kind || kind == 255);
    let authority = if is_negative { all(&message.authorities)? } else { Vec::new() };
    let least = answers.iter().map(|record| record.ttl).min().unwrap_or(MOST_LIFE).min(MOST_LIFE);
    let life = match signed_life(&message.authorities) {
        _ if !is_negative => least,
        Some(signed) => least.min(signed).min(MOST_NEGATIVE_LIFE),
        None => UNSIGNED_LIFE.min(least),
    };
    // Whoever asked is to get it, even if it is for once only.
    let life = Duration::from_secs(u64::from(life)).max(Duration::from_secs(1));
    Some(Stored { code, answers, authority, life })
}

/// How long the SOA record says that there is none. Source: RFC 2308, 5.
fn signed_life(authorities: &[ProtoRecord]) -> Option<u32> {
    authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else { return None };
        Some(record.ttl.min(soa.minimum))
    })
}

fn record(record: &ProtoRecord) -> Option<Record> {
    let kind = u16::from(record.record_type());
    let mut ttl = record.ttl;
    if let RData::SOA(soa) = &record.data {
        debug_assert_eq!(kind, SOA, "its own type");
        ttl = ttl.min(soa.minimum);
    }
    // A time with the highest bit is none. Source: RFC 2181, 8.
    let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
    let mut data = Vec::new();
    let mut encoder = BinEncoder::new(&mut data);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    record.data.emit(&mut encoder).ok()?;
    // Behind a CNAME others are asked by the name in it.
    if kind == super::code::CNAME {
        data.make_ascii_lowercase();
    }
    Some(Record { owner: wire(&record.name)?, kind, ttl, data: data.into() })
}

fn wire(name: &ProtoName) -> Option<Box<[u8]>> {
    let mut data = Vec::new();
    let mut encoder = BinEncoder::new(&mut data);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    name.emit(&mut encoder).ok()?;
    // Lengths are below any letter.
    data.make_ascii_lowercase();
    Some(data.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::rdata;
    use std::str::FromStr as _;

    fn key() -> Key {
        Key::new(b"\x03www\x07example\x03org\0", 1, false)
    }

    fn name(text: &str) -> ProtoName {
        ProtoName::from_str(text).unwrap()
    }

    fn answer(change: impl FnOnce(&mut Message)) -> Option<Said> {
        let mut message = Message::from_vec(&question(&key(), 7, true).unwrap()).unwrap();
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        read(&message.to_vec().unwrap(), &key(), 7)
    }

    fn soa(ttl: u32, minimum: u32) -> ProtoRecord {
        let data = rdata::SOA::new(name("ns.example.org."), name("x.example.org."), 1, 2, 3, 4, minimum);
        ProtoRecord::from_rdata(name("example.org."), ttl, RData::SOA(data))
    }

    fn life(said: Option<Said>) -> u64 {
        match said {
            Some(Said::Answer(stored)) => stored.life.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_read_with_its_least_time() {
        let said = answer(|message| {
            let alias = RData::CNAME(rdata::CNAME(name("Cdn.Example.net.")));
            message.add_answer(ProtoRecord::from_rdata(name("WWW.example.org."), 300, alias));
            let address = RData::A(rdata::A::new(192, 0, 2, 1));
            message.add_answer(ProtoRecord::from_rdata(name("cdn.example.net."), 60, address));
        });
        let Some(Said::Answer(stored)) = &said else { panic!("{said:?}") };
        assert_eq!(&*stored.answers[0].owner, b"\x03www\x07example\x03org\0");
        assert_eq!(stored.answers[0].data, stored.answers[1].owner);
        assert_eq!(&*stored.answers[1].data, [192, 0, 2, 1]);
        assert_eq!(life(said), 60);
    }

    #[test]
    fn how_long_there_is_none_is_by_the_word_of_its_soa() {
        let none = |soa: Option<ProtoRecord>| {
            life(answer(|message| {
                message.metadata.response_code = ResponseCode::NXDomain;
                soa.map(|soa| message.add_authority(soa));
            }))
        };
        assert_eq!(none(Some(soa(900, 60))), 60);
        assert_eq!(none(Some(soa(30, 600))), 30);
        assert_eq!(none(Some(soa(90_000, 90_000))), 1800, "at most");
        assert_eq!(none(None), 5);
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_passed_over() {
        assert_eq!(answer(|message| message.metadata.id = 8), None);
        assert_eq!(answer(|message| message.metadata.message_type = MessageType::Query), None);
        assert_eq!(answer(|message| message.metadata.op_code = OpCode::Update), None);
        assert_eq!(answer(|message| message.queries[0] = Query::query(name("other."), RecordType::A)), None);
        assert_eq!(answer(|message| message.queries.clear()), None);
        assert_eq!(read(b"\0\x07\x80", &key(), 7), None);
        assert_eq!(answer(|message| message.metadata.truncation = true), Some(Said::Truncated));
        assert_eq!(
            answer(|message| message.metadata.response_code = ResponseCode::ServFail),
            Some(Said::Refused)
        );
        assert_eq!(answer(|message| message.metadata.response_code = ResponseCode::FormErr), Some(Said::Old));
    }
}
