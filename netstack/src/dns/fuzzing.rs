//! Whatever bytes come from clients or other servers: no panic, and every answer is a message.

use super::cache::{Cache, Key, Stored};
use super::code::{HEADER, IN};
use super::counters::Channel;
use super::desk::{Asked, Desk, Rules, Verdict};
use super::foreign::{self, Said};
use super::model::{NamedEndpoint, NamedPort, PodNames, ServiceNames};
use super::name::Name;
use super::question::Question;
use super::reply::TCP_LIMIT;
use super::zone::Zone;
use crate::services::{ServiceName, Transport};
use hickory_proto::op::Message;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
/// Others are asked no more often for one question: by the names of a search path, and by aliases.
const MOST_ASKED: usize = 12;

thread_local! {
    /// Made once: that takes longer than an answer.
    static DESK: Desk = desk();
}

/// Takes `content` for a client's packet; those that have to be asked for it do not answer.
///
/// # Panics
/// If it is answered by what is no message, or is too long, or others are asked without end.
#[cfg_attr(test, allow(unreachable_pub, reason = "it is for the fuzzer, which is another crate"))]
pub fn judge_question(content: &[u8]) {
    DESK.with(|desk| {
        for channel in [Channel::Udp, Channel::Tcp] {
            answer_whole(desk, content, channel);
        }
        let mut out = Vec::new();
        check(&desk.give_up(content, &mut out), content, Channel::Tcp, &out);
    });
}

fn answer_whole(desk: &Desk, packet: &[u8], channel: Channel) {
    *desk.cache() = cache();
    let mut out = Vec::new();
    let now = Instant::now();
    let mut asked = Asked { packet, from: POD, channel, now, again: false, searches: true };
    for _ in 0..MOST_ASKED {
        let verdict = desk.answer(asked, &mut out);
        let Verdict::Ask(key, _) = verdict else { return check(&verdict, packet, channel, &out) };
        let (name, kind, _) = key.parts();
        let question = foreign::question(&key, 7, true);
        let question = question.as_deref().map(Question::read);
        assert!(
            matches!(&question, Some(Ok(question)) if question.name() == name && question.kind == kind),
            "{name:?}, {kind} cannot be asked: {question:?}"
        );
        desk.cache().insert(key.bytes(), Stored::failure(), now);
        asked.again = true;
    }
    unreachable!("others are asked again and again")
}

/// Takes `content` for another server's answer to the question that it repeats. What it says becomes
/// an answer to whoever asks that.
///
/// # Panics
/// If that is no message, or is too long.
#[cfg_attr(test, allow(unreachable_pub, reason = "it is for the fuzzer, which is another crate"))]
pub fn judge_answer(content: &[u8]) {
    let Some((head, rest)) = content.split_at_checked(HEADER) else { return };
    let packet = [&[head[0], head[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], rest].concat();
    let Ok(question) = Question::read(&packet) else { return };
    let key = Key::new(question.name(), question.kind, false);
    let id = u16::from_be_bytes([head[0], head[1]]);
    let Some(Said::Answer(stored)) = foreign::read(content, &key, id) else { return };
    assert!(question.raw.ends_with(&IN.to_be_bytes()), "of another class");
    let packet = [&packet[..HEADER], question.raw].concat();
    DESK.with(|desk| {
        *desk.cache() = cache();
        let now = Instant::now();
        let life = stored.life;
        desk.cache().insert(key.bytes(), stored, now);
        let mut out = Vec::new();
        for channel in [Channel::Udp, Channel::Tcp] {
            let asked = Asked { packet: &packet, from: POD, channel, now, again: false, searches: false };
            let verdict = desk.answer(asked, &mut out);
            assert!(matches!(verdict, Verdict::Answered), "it is in the cache");
            check(&verdict, &packet, channel, &out);
            let late = Asked { now: now + life, ..asked };
            let verdict = desk.answer(late, &mut out);
            check(&verdict, &packet, channel, &out);
        }
    });
}

fn check(verdict: &Verdict, question: &[u8], channel: Channel, answer: &[u8]) {
    if !matches!(verdict, Verdict::Answered) {
        return;
    }
    assert_eq!(question[..2], answer[..2], "the question's number");
    let limit = match (Question::read(question), channel) {
        (Ok(question), Channel::Udp) => question.udp_limit(),
        (Ok(_), Channel::Tcp) | (Err(_), _) => TCP_LIMIT,
    };
    assert!(answer.len() <= limit, "{} bytes of {limit}", answer.len());
    let read = Message::from_vec(answer);
    assert!(read.is_ok(), "{read:?}: {answer:?}");
}

fn cache() -> Cache {
    Cache::new(10, Duration::from_secs(9))
}

fn desk() -> Desk {
    let address = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 88, 0, last));
    let origin = Name::parse("a.b");
    let mut zone = Zone::new(origin.unwrap_or_else(|| unreachable!("two labels")), &[address(1)], 1);
    let mut set = |name: &str, names: ServiceNames| {
        zone.set(ServiceName { namespace: "n".into(), name: name.into() }, Some(&names));
    };
    let ports = vec![NamedPort { name: "p".into(), transport: Transport::Tcp, number: 80 }];
    set("s", ServiceNames::Cluster { addresses: vec![address(9)], ports: ports.clone() });
    set("x", ServiceNames::External("s.n.svc.a.b".into()));
    let many = (0..200).map(|n| NamedEndpoint { address: address(n), hostname: None, ports: ports.clone() });
    set("h", ServiceNames::Headless(many.collect()));
    let searches = ["n.svc.a.b", "svc.a.b", "a.b"].map(str::to_owned).into();
    zone.set_pods(POD, vec![PodNames { namespace: "n".into(), searches }]);
    let rules = Rules::new(&[], vec![(address(0), 24)], true);
    Desk::new(zone, rules, cache(), Arc::default())
}

#[cfg(test)]
mod tests {
    use super::{judge_answer, judge_question};
    use proptest::prelude::*;

    /// A name of the cluster's, of others, or of anything.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let known =
            ["n", "s", "x", "h", "svc", "pod", "a", "b", "_p", "_tcp", "www", "example", "org", "10-88-0-2"];
        let label = prop_oneof![
            8 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 1..64),
        ];
        proptest::collection::vec(label, 0..7).prop_map(|labels| {
            let length = |label: &Vec<u8>| u8::try_from(label.len()).unwrap();
            let mut wire: Vec<u8> =
                labels.iter().flat_map(|label| [vec![length(label)], label.clone()].concat()).collect();
            wire.push(0);
            wire
        })
    }

    proptest! {
        #[test]
        fn questions_of_all_kinds_are_answered_by_messages(
            name in name(),
            kind in prop_oneof![proptest::sample::select(vec![1_u16, 5, 6, 12, 28, 33, 255]), any::<u16>()],
            opt in proptest::option::of(any::<u16>()),
            flags: u16,
        ) {
            let mut packet = vec![0, 7];
            packet.extend((flags & 0x7fff).to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())]);
            packet.extend(&name);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1]);
            if let Some(payload) = opt {
                packet.extend([0, 0, 41]);
                packet.extend(payload.to_be_bytes());
                packet.extend([0; 6]);
            }
            judge_question(&packet);
        }

        #[test]
        fn answers_of_all_kinds_can_be_given_on(
            records in proptest::collection::vec((any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            code in 0_u8..4,
        ) {
            let mut packet = vec![0, 7, 0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0];
            packet.extend(b"\x03www\x07example\x03org\0\0\x01\0\x01");
            for (kind, ttl, data) in records {
                let kind = if kind % 3 == 0 { [1, 5, 6, 15, 16, 28, 33, 64, 65][usize::from(kind % 9)] } else { kind };
                packet.extend([0xc0, 12]);
                packet.extend(kind.to_be_bytes());
                packet.extend([0, 1]);
                packet.extend(ttl.to_be_bytes());
                packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                packet.extend(data);
            }
            judge_answer(&packet);
        }
    }
}
