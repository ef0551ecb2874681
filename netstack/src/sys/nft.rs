//! nftables: one table with chains and rules, replaced as a whole or not at all.
//!
//! Messages of nfnetlink, written by hand: there is no need here for a tenth of what it can do.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::io;
use std::os::fd::AsRawFd as _;

/// Source: `linux/netfilter/nfnetlink.h`, `nf_tables.h`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const FAMILY_IPV4: u8 = 2;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
/// How long the kernel may take to answer, which it does at once.
const PATIENCE: i64 = 10;

/// Where a chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// Of netfilter: 0 prerouting, 3 output, 4 postrouting.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// What a rule looks at or does, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Only packets for this machine.
    ToThisMachine,
    /// Only from this interface.
    From(String),
    /// Only out of this interface.
    To(String),
    /// Only of this protocol above IP.
    Protocol(u8),
    /// Only with these bytes at this offset of the IP header.
    Network(u32, Vec<u8>),
    /// Only to this port.
    Port(u16),
    /// To this address and port instead.
    Redirect([u8; 4], u16),
    /// From the address of the interface that it leaves by instead.
    Masquerade,
    /// Nowhere.
    Drop,
}

/// The bytes of a message or attribute in the making.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_be_bytes())
    }

    fn nest(&mut self, kind: u16, make: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        make(&mut inner);
        self.put(kind | NESTED, &inner.0)
    }

    /// One expression of a rule.
    fn expression(&mut self, name: &str, make: impl FnOnce(&mut Self)) {
        self.nest(1, |element| {
            element.text(1, name).nest(2, make);
        });
    }

    /// Loads a value into register 1, and goes on only if it is `wanted`.
    fn must_be(&mut self, name: &str, load: impl FnOnce(&mut Self), wanted: &[u8]) {
        self.expression(name, load);
        self.expression("cmp", |cmp| {
            cmp.number(1, 1).number(2, 0).nest(3, |data| {
                data.put(1, wanted);
            });
        });
    }

    fn immediate(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |immediate| {
            immediate.number(1, register).nest(2, |data| {
                data.put(1, value);
            });
        });
    }

    fn meta(&mut self, key: u32, wanted: &[u8]) {
        self.must_be(
            "meta",
            |meta| {
                meta.number(2, key).number(1, 1);
            },
            wanted,
        );
    }

    fn payload(&mut self, base: u32, offset: u32, wanted: &[u8]) {
        let length = u32::try_from(wanted.len()).unwrap_or(0);
        let load = |load: &mut Self| {
            load.number(1, 1).number(2, base).number(3, offset).number(4, length);
        };
        self.must_be("payload", load, wanted);
    }

    fn step(&mut self, step: &Step) {
        const PROTOCOL: u32 = 16;
        const INPUT_NAME: u32 = 6;
        const OUTPUT_NAME: u32 = 7;
        const LOCAL: u32 = 2;
        let interface = |name: &str| {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(16, 0);
            padded
        };
        match step {
            Step::ToThisMachine => {
                let load = |fib: &mut Self| {
                    fib.number(1, 1).number(3, 2).number(2, 3);
                };
                self.must_be("fib", load, &LOCAL.to_ne_bytes());
            }
            Step::From(name) => self.meta(INPUT_NAME, &interface(name)),
            Step::To(name) => self.meta(OUTPUT_NAME, &interface(name)),
            Step::Protocol(protocol) => self.meta(PROTOCOL, &[*protocol]),
            Step::Network(offset, bytes) => self.payload(1, *offset, bytes),
            Step::Port(port) => self.payload(2, 2, &port.to_be_bytes()),
            Step::Redirect(address, port) => {
                self.immediate(1, address);
                self.immediate(2, &port.to_be_bytes());
                self.expression("nat", |nat| {
                    nat.number(1, 1).number(2, u32::from(FAMILY_IPV4)).number(3, 1).number(5, 2);
                });
            }
            Step::Masquerade => self.expression("masq", |_| {}),
            Step::Drop => self.expression("immediate", |immediate| {
                immediate.number(1, 0).nest(2, |data| {
                    data.nest(2, |verdict| {
                        verdict.number(1, 0);
                    });
                });
            }),
        }
    }
}

/// Messages that take force together.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, family: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 20).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let id: u16 = if kind < SUBSYSTEM << 8 { SUBSYSTEM } else { 0 };
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&id.to_be_bytes());
        self.bytes.extend_from_slice(body);
        self.count += 1;
    }

    fn add(&mut self, kind: u16, flags: u16, make: impl FnOnce(&mut Bytes)) {
        let mut body = Bytes::default();
        make(&mut body);
        self.message(SUBSYSTEM << 8 | kind, ACK | flags, FAMILY_IPV4, &body.0);
    }

    /// The kernel has taken all of it, or none.
    fn commit(mut self) -> io::Result<()> {
        self.message(BATCH_END, 0, 0, &[]);
        // The first and the last are not answered.
        let mut awaited = self.count.saturating_sub(2);
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        setsockopt(&socket, sockopt::SndBuf, &self.bytes.len().saturating_mul(2).max(1 << 18))?;
        sendto(socket.as_raw_fd(), &self.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = vec![0; 1 << 16];
        while awaited > 0 {
            let count = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for error in answers(&buffer[..count]) {
                if error != 0 {
                    return Err(Errno::from_raw(-error).into());
                }
                awaited = awaited.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// The numbers of the errors in what the kernel answers; 0 is none.
fn answers(mut bytes: &[u8]) -> Vec<i32> {
    let mut errors = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<20>() {
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let length = usize::try_from(u32::from_ne_bytes(word(0))).unwrap_or(0).max(20);
        if u16::from_ne_bytes([head[4], head[5]]) == ERROR {
            errors.push(i32::from_ne_bytes(word(16)));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    errors
}

/// The table is there with exactly these rules; without any, it is gone.
///
/// # Errors
/// The kernel's: `EOPNOTSUPP` or `ENOENT` if it lacks what a rule needs. Nothing has changed then.
pub(crate) fn replace(table: &str, chains: &[(Chain, Vec<Vec<Step>>)]) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.message(BATCH_BEGIN, 0, 0, &[]);
    // It has to be there to be deleted.
    batch.add(NEW_TABLE, CREATE, |body| {
        body.text(1, table);
    });
    batch.add(DELETE_TABLE, 0, |body| {
        body.text(1, table);
    });
    if chains.iter().any(|(_, rules)| !rules.is_empty()) {
        batch.add(NEW_TABLE, CREATE, |body| {
            body.text(1, table);
        });
        for (chain, rules) in chains {
            batch.add(NEW_CHAIN, CREATE, |body| {
                body.text(1, table).text(3, chain.name).nest(4, |hook| {
                    hook.number(1, chain.hook).number(2, chain.priority.cast_unsigned());
                });
                body.text(7, chain.kind);
            });
            for rule in rules {
                batch.add(NEW_RULE, CREATE | APPEND, |body| {
                    body.text(1, table).text(2, chain.name).nest(4, |list| {
                        rule.iter().for_each(|step| list.step(step));
                    });
                });
            }
        }
    }
    batch.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_answers_read() {
        let mut bytes = Bytes::default();
        bytes.text(1, "ab").nest(2, |inner| {
            inner.number(3, 1);
        });
        assert_eq!(bytes.0, [7, 0, 1, 0, b'a', b'b', 0, 0, 12, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 0, 1]);
        let mut answer = vec![36, 0, 0, 0, 2, 0, 0, 0];
        answer.extend([0; 8]);
        answer.extend((-2_i32).to_ne_bytes());
        answer.resize(36, 0);
        assert_eq!(answers(&[answer.as_slice(), &answer].concat()), [-2, -2]);
        assert!(answers(&answer[..10]).is_empty());
    }
}
