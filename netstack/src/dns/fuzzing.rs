//! Whatever bytes come from clients or other servers: no panic, and every answer is a message.

use super::cache::{Cache, Key};
use super::counters::Channel;
use super::desk::{Asked, Desk, Rules, Verdict};
use super::foreign::{self, Said};
use super::model::{NamedEndpoint, NamedPort, PodNames, ServiceNames};
use super::name::Name;
use super::zone::Zone;
use crate::services::{ServiceName, Transport};
use hickory_proto::op::Message;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));

/// Takes `content` for a client's packet, and for another server's answer to what was asked of it.
///
/// # Panics
/// If it is answered by what is no message, or is too long.
#[cfg_attr(test, allow(unreachable_pub, reason = "it is for the fuzzer, which is another crate"))]
pub fn judge(content: &[u8]) {
    let desk = desk();
    let mut out = Vec::new();
    let asked = Asked {
        packet: content,
        from: POD,
        channel: Channel::Udp,
        now: Instant::now(),
        again: false,
        searches: true,
    };
    let verdict = desk.answer(asked, &mut out);
    check(&verdict, content, &out);
    // What others say of `www.example.org`, number 7, becomes an answer to whoever asks for that.
    let key = Key::new(b"\x03www\x07example\x03org\0", 1, false);
    let Some(Said::Answer(stored)) = foreign::read(content, &key, 7) else { return };
    desk.cache().insert(key.bytes(), stored, asked.now);
    let question = b"\0\x09\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x07example\x03org\0\0\x01\0\x01";
    for channel in [Channel::Udp, Channel::Tcp] {
        let verdict = desk.answer(Asked { packet: question, channel, ..asked }, &mut out);
        assert!(matches!(verdict, Verdict::Answered), "it is in the cache");
        check(&verdict, question, &out);
    }
}

fn check(verdict: &Verdict, question: &[u8], answer: &[u8]) {
    if !matches!(verdict, Verdict::Answered) {
        return;
    }
    assert_eq!(question[..2], answer[..2], "the question's number");
    assert!(answer.len() <= usize::from(u16::MAX), "too long");
    let read = Message::from_vec(answer);
    assert!(read.is_ok(), "{read:?}: {answer:?}");
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
    Desk::new(zone, rules, Cache::new(10, Duration::from_secs(9)), Arc::default())
}

#[cfg(test)]
mod tests {
    use super::judge;
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
            judge(&packet);
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
            judge(&packet);
        }
    }
}
