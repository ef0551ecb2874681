//! The programs that links ask.
//!
//! `take` is asked of what comes from pods and from other nodes: what is remembered leaves at once, as a packet before
//! it did. `learn` is asked of what goes to them, and remembers what netfilter has marked for it.

use super::assembler::{Assembler, Helper, If, Register, Sum, Width};
use super::flow::{AWAY, DESTINATION, KEY_BYTES, LINK, MACS, PACKETS, PORTS, SOURCE, UNTIL, VALUE_BYTES};
use super::rules::MARK;
use crate::sys::bpf::Instruction;
use std::os::fd::BorrowedFd;

use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Stack};
use Width::{Byte, Double, Half, Word};

/// How long a packet's way is repeated before another packet has to find it anew.
const TRUE_FOR_NANOSECONDS: i32 = 1_000_000_000;

/// Where things are on the stack: 36 bytes of key, 40 of a header, 40 of value.
const KEY: i16 = -40;
const HEADER: i16 = -80;
const VALUE: i16 = -120;

/// Of `struct __sk_buff`.
const SKB_MARK: i16 = 8;
const SKB_PROTOCOL: i16 = 16;
const SKB_TAGGED: i16 = 20;
const SKB_LINK: i16 = 40;

/// Of frames, in bytes.
const ETHERNET: i32 = 14;
const BOTH_MACS: i32 = 12;
const IPV4_HEADER: i32 = 20;
const IPV6_HEADER: i32 = 40;
const TTL: i32 = ETHERNET + 8;
const IPV4_SUM: i32 = ETHERNET + 10;
const HOP_LIMIT: i32 = ETHERNET + 7;
/// Up to the flags.
const TCP_BEGINNING: i32 = 14;
const TCP: i32 = 6;
/// Version 4 with a header of five words.
const PLAIN_IPV4: i32 = 0x45;
/// More fragments, and the fragment's place.
const FRAGMENT: u16 = 0x3fff;
const FIN_SYN_RST: i32 = 7;

/// It is for this machine.
const PACKET_HOST: i32 = 0;
/// Nothing is said; the next one is asked.
const NEXT: i32 = -1;
const RECOMPUTE_SUM: i32 = 1;

/// A half as it is loaded from a packet.
fn in_packet(number: u16) -> i32 {
    i32::from(number.to_be())
}

/// Sends what is remembered where it goes, and leaves the rest alone. `from_away` if the link leads to other nodes: what
/// comes by it, and what leaves by such a link, has come one node further.
pub(super) fn take(flows: BorrowedFd<'_>, from_away: bool) -> Option<Vec<Instruction>> {
    let mut a = Assembler::default();
    read_flow(&mut a);
    find(&mut a, flows);
    a.jump_if(If::Equal, R0, 0, "on");
    // A connection begins or ends: netfilter is to see it.
    a.jump_if(If::Unequal, R9, 0, "forget");
    a.copy(R9, R0);
    a.call(Helper::Nanoseconds);
    a.load(Double, R1, (R9, UNTIL));
    a.jump_if_both(If::Above, R0, R1, "on");
    if from_away {
        age(&mut a);
    }
    replace_macs(&mut a);
    a.load(Word, R1, (R9, AWAY));
    a.jump_if(If::Unequal, R1, 0, "away");
    a.copy(R1, R6);
    a.sum(Sum::Move, R2, PACKET_HOST);
    a.call(Helper::ChangeType);
    leave(&mut a, Helper::RedirectPeer);
    a.place("away");
    if !from_away {
        age(&mut a);
    }
    leave(&mut a, Helper::Redirect);
    a.place("forget");
    a.map(R1, flows);
    a.on_stack(R2, KEY);
    a.call(Helper::MapDelete);
    end(&mut a);
    a.finish()
}

/// Remembers what is marked, takes the mark from it, and lets everything pass. `away` if the link leads to other nodes.
pub(super) fn learn(flows: BorrowedFd<'_>, away: bool) -> Option<Vec<Instruction>> {
    let mut a = Assembler::default();
    a.load(Word, R2, (R1, SKB_MARK));
    a.jump_if(If::AnyOf, R2, MARK.cast_signed(), "marked");
    a.sum(Sum::Move, R0, NEXT);
    a.exit();
    a.place("marked");
    a.sum(Sum::And, R2, (!MARK).cast_signed());
    a.store(Word, (R1, SKB_MARK), R2);
    read_flow(&mut a);
    a.jump_if(If::Unequal, R9, 0, "on");
    find(&mut a, flows);
    a.jump_if(If::Equal, R0, 0, "new");
    a.load(Double, R9, (R0, PACKETS));
    a.place("new");
    a.store(Double, (Stack, VALUE + PACKETS), R9);
    a.call(Helper::Nanoseconds);
    a.sum(Sum::Add, R0, TRUE_FOR_NANOSECONDS);
    a.store(Double, (Stack, VALUE + UNTIL), R0);
    a.load(Word, R0, (R6, SKB_LINK));
    a.store(Word, (Stack, VALUE + LINK), R0);
    a.store_value(Word, (Stack, VALUE + AWAY), i32::from(away));
    // Behind the hardware addresses are four bytes of nothing.
    a.store_value(Word, (Stack, VALUE + VALUE_BYTES - 4), 0);
    load_bytes(&mut a, 0, (VALUE + MACS, BOTH_MACS));
    a.map(R1, flows);
    a.on_stack(R2, KEY);
    a.on_stack(R3, VALUE);
    a.sum(Sum::Move, R4, 0);
    a.call(Helper::MapUpdate);
    end(&mut a);
    a.finish()
}

/// The key is on the stack; the packet in R6, the offset of its TCP header in R7, how far it may go still in R8, which
/// of the flags are set that begin and end connections in R9. Goes on where there is anything but plain TCP.
fn read_flow(a: &mut Assembler) {
    a.copy(R6, R1);
    a.load(Word, R0, (R6, SKB_TAGGED));
    a.jump_if(If::Unequal, R0, 0, "on");
    (0..4).for_each(|double| a.store_value(Double, (Stack, KEY + double * 8), 0));
    a.load(Word, R0, (R6, SKB_PROTOCOL));
    a.jump_if(If::Equal, R0, in_packet(0x0800), "ipv4");
    a.jump_if(If::Unequal, R0, in_packet(0x86dd), "on");
    load_bytes(a, ETHERNET, (HEADER, IPV6_HEADER));
    a.load(Byte, R0, (Stack, HEADER + 6));
    a.jump_if(If::Unequal, R0, TCP, "on");
    a.load(Byte, R8, (Stack, HEADER + 7));
    for double in 0..4 {
        a.load(Double, R0, (Stack, HEADER + 8 + double * 8));
        a.store(Double, (Stack, KEY + double * 8), R0);
    }
    a.sum(Sum::Move, R7, ETHERNET + IPV6_HEADER);
    a.jump("tcp");
    a.place("ipv4");
    load_bytes(a, ETHERNET, (HEADER, IPV4_HEADER));
    a.load(Byte, R0, (Stack, HEADER));
    a.jump_if(If::Unequal, R0, PLAIN_IPV4, "on");
    a.load(Byte, R0, (Stack, HEADER + 9));
    a.jump_if(If::Unequal, R0, TCP, "on");
    a.load(Half, R0, (Stack, HEADER + 6));
    a.jump_if(If::AnyOf, R0, in_packet(FRAGMENT), "on");
    a.load(Byte, R8, (Stack, HEADER + 8));
    for (from, to) in [(12, SOURCE), (16, DESTINATION)] {
        a.load(Word, R0, (Stack, HEADER + from));
        a.store(Word, (Stack, KEY + to), R0);
    }
    a.sum(Sum::Move, R7, ETHERNET + IPV4_HEADER);
    a.place("tcp");
    a.copy(R2, R7);
    load_bytes_at(a, (HEADER, TCP_BEGINNING));
    a.load(Word, R0, (Stack, HEADER));
    a.store(Word, (Stack, KEY + PORTS), R0);
    a.load(Byte, R9, (Stack, HEADER + 13));
    a.sum(Sum::And, R9, FIN_SYN_RST);
    const { assert!(KEY + KEY_BYTES <= 0, "the key ends before the stack does") };
}

/// The flow's entry, or nothing, is in R0.
fn find(a: &mut Assembler, flows: BorrowedFd<'_>) {
    a.map(R1, flows);
    a.on_stack(R2, KEY);
    a.call(Helper::MapLookup);
}

/// Of the frame, so many bytes from `offset` on are on the stack.
fn load_bytes(a: &mut Assembler, offset: i32, to: (i16, i32)) {
    a.sum(Sum::Move, R2, offset);
    load_bytes_at(a, to);
}

/// The same from where R2 says.
fn load_bytes_at(a: &mut Assembler, (to, count): (i16, i32)) {
    a.copy(R1, R6);
    a.on_stack(R3, to);
    a.sum(Sum::Move, R4, count);
    a.call(Helper::LoadBytes);
    a.jump_if(If::Unequal, R0, 0, "on");
}

/// The frame has the hardware addresses of the entry in R9.
fn replace_macs(a: &mut Assembler) {
    a.copy(R1, R6);
    a.sum(Sum::Move, R2, 0);
    a.copy(R3, R9);
    a.sum(Sum::Add, R3, i32::from(MACS));
    a.sum(Sum::Move, R4, BOTH_MACS);
    a.sum(Sum::Move, R5, 0);
    a.call(Helper::StoreBytes);
    a.jump_if(If::Unequal, R0, 0, "on");
}

/// The packet may go one node less far. One that may go no further is left alone: the kernel tells its sender.
fn age(a: &mut Assembler) {
    a.jump_if(If::AtMost, R8, 1, "on");
    a.sum(Sum::Add, R8, -1);
    a.jump_if(If::Equal, R7, ETHERNET + IPV4_HEADER, "age4");
    store_age(a, HOP_LIMIT, RECOMPUTE_SUM);
    a.jump("aged");
    a.place("age4");
    // The header's sum is over words: of this one, the other half is the protocol.
    load_bytes(a, TTL, (HEADER, 2));
    a.load(Half, R3, (Stack, HEADER));
    a.copy(R4, R3);
    a.sum(Sum::Add, R4, -i32::from(0x0100_u16.to_be()));
    a.copy(R1, R6);
    a.sum(Sum::Move, R2, IPV4_SUM);
    a.sum(Sum::Move, R5, 2);
    a.call(Helper::ReplaceSum);
    a.jump_if(If::Unequal, R0, 0, "on");
    store_age(a, TTL, 0);
    a.place("aged");
}

/// The frame's byte there is what R8 says.
fn store_age(a: &mut Assembler, offset: i32, flags: i32) {
    a.store(Byte, (Stack, HEADER), R8);
    a.copy(R1, R6);
    a.sum(Sum::Move, R2, offset);
    a.on_stack(R3, HEADER);
    a.sum(Sum::Move, R4, 1);
    a.sum(Sum::Move, R5, flags);
    a.call(Helper::StoreBytes);
    a.jump_if(If::Unequal, R0, 0, "on");
}

/// The packet is counted, and leaves by the link of the entry in R9.
fn leave(a: &mut Assembler, by: Helper) {
    a.sum(Sum::Move, R1, 1);
    a.add_at_once((R9, PACKETS), R1);
    a.load(Word, R1, (R9, LINK));
    a.sum(Sum::Move, R2, 0);
    a.call(by);
    a.exit();
}

/// Where everything goes that is not remembered: on.
fn end(a: &mut Assembler) {
    a.place("on");
    a.sum(Sum::Move, R0, NEXT);
    a.exit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn all_jumps_lead_somewhere() {
        let any = std::fs::File::open("/dev/null").unwrap();
        for away in [false, true] {
            for program in [take(any.as_fd(), away), learn(any.as_fd(), away)] {
                assert!(program.unwrap().len() < 4096, "the most that a program may have");
            }
        }
    }
}
