//! Numbers of the protocol. Source: RFC 1035, 3596, 2782, 6891.

/// Types of records.
pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const PTR: u16 = 12;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
pub(super) const OPT: u16 = 41;
/// Types that ask for a transfer of a zone; no record has them.
pub(super) const TRANSFERS: std::ops::RangeInclusive<u16> = 251..=252;

/// The class of the Internet.
pub(super) const IN: u16 = 1;
/// Any class.
pub(super) const ANY_CLASS: u16 = 255;

/// How a question was answered.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NAME_ERROR: u8 = 3;
pub(super) const NOT_IMPLEMENTED: u8 = 4;
pub(super) const REFUSED: u8 = 5;
/// Does not fit the header: its upper part stands in the OPT record.
pub(super) const BAD_VERSION: u8 = 16;

/// Bits of the header's flags.
pub(super) const RESPONSE: u16 = 1 << 15;
pub(super) const AUTHORITATIVE: u16 = 1 << 10;
pub(super) const TRUNCATED: u16 = 1 << 9;
pub(super) const RECURSION_DESIRED: u16 = 1 << 8;
pub(super) const RECURSION_AVAILABLE: u16 = 1 << 7;

/// Bytes of a message's header.
pub(super) const HEADER: usize = 12;
/// The longest name in wire form.
pub(super) const NAME: usize = 255;
/// The longest label.
pub(super) const LABEL: usize = 63;
/// What a client takes by UDP that does not say how much it takes.
pub(super) const PLAIN_UDP: usize = 512;
/// What crosses every usual link in one piece. Source: DNS flag day 2020.
pub(super) const SAFE_UDP: u16 = 1232;
