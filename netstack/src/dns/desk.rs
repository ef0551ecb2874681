//! What is asked → the answer, or what has to be asked of others first. Nothing waits here.

use super::cache::{Cache, Hit, Key, Stored};
use super::code::{AUTHORITATIVE, CNAME, NAME_ERROR, NO_ERROR, SERVER_FAILURE, SOA, SRV};
use super::counters::{Channel, Counters};
use super::name::{self, Name};
use super::question::{Question, Unanswerable};
use super::reply::{Content, Reply, Section, TCP_LIMIT, refuse};
use super::zone::{Datum, Found, TTL, Zone, alias};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How many names may stand for one another in a row.
const MOST_ALIASES: usize = 8;
/// Seconds that an answer that is too old may be kept. Source: RFC 8767, 4.
const STALE_TTL: u32 = 30;
/// Any type of record.
const ANY: u16 = 255;

/// What the configuration says of names.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Names of the node's own, before all others.
    pub(super) hosts: HashMap<Box<[u8]>, Vec<Datum>>,
    /// The names of their addresses.
    pub(super) host_addresses: HashMap<IpAddr, Vec<Datum>>,
    /// Networks about which nobody else knows anything.
    pub(super) networks: Vec<(IpAddr, u8)>,
    /// Search paths are followed here.
    pub(super) autopath: bool,
}

impl Rules {
    /// With `hosts`, and what every machine calls itself.
    pub(super) fn new(hosts: &[(IpAddr, Vec<String>)], networks: Vec<(IpAddr, u8)>, autopath: bool) -> Self {
        let mut rules = Self { networks, autopath, ..Self::default() };
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let local = local.map(|address| (address, vec!["localhost".to_owned()]));
        for (address, names) in hosts.iter().chain(&local) {
            let names: Vec<Name> = names.iter().filter_map(|text| Name::parse(text)).collect();
            for name in &names {
                rules.hosts.entry(name.wire().into()).or_default().push(Datum::address(*address));
            }
            // As in /etc/hosts, the first is the one that it is called.
            let first = names.into_iter().next().map(|name| Datum::name(super::code::PTR, name));
            rules.host_addresses.entry(*address).or_default().extend(first);
        }
        rules
    }
}

/// A packet, and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'p> {
    pub(super) packet: &'p [u8],
    pub(super) from: IpAddr,
    pub(super) channel: Channel,
    pub(super) now: Instant,
    /// It was counted already.
    pub(super) again: bool,
    /// Search paths are followed.
    pub(super) searches: bool,
}

/// What becomes of a packet.
pub(super) enum Verdict {
    /// Nothing.
    Silence,
    /// There is an answer.
    Answered,
    /// Others have to be asked this, and then the packet is to be looked at again. It is for the sake of
    /// a search path if the second says so, which can do without.
    Ask(Box<Key>, bool),
}

/// All that answers are made from.
#[derive(Debug)]
pub(super) struct Desk {
    zone: RwLock<Zone>,
    rules: Rules,
    cache: Mutex<Cache>,
    counters: Arc<Counters>,
}

impl Desk {
    pub(super) fn new(zone: Zone, rules: Rules, cache: Cache, counters: Arc<Counters>) -> Self {
        Self { zone: RwLock::new(zone), rules, cache: Mutex::new(cache), counters }
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of the cluster.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Zone) -> T) -> T {
        change(&mut self.zone.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges a packet; an answer is in `out`.
    pub(super) fn answer(&self, asked: Asked<'_>, out: &mut Vec<u8>) -> Verdict {
        let question = match Question::read(asked.packet) {
            Ok(question) => question,
            Err(Unanswerable::Ignored) => return Verdict::Silence,
            Err(Unanswerable::Refused(head, code)) => {
                refuse(head, code, out);
                self.counters.count_request(asked.channel, asked.from, 0);
                self.counters.count_response(code);
                return Verdict::Answered;
            }
        };
        if !asked.again {
            self.counters.count_request(asked.channel, asked.from, question.kind);
        }
        let limit = match asked.channel {
            Channel::Udp => question.udp_limit(),
            Channel::Tcp => TCP_LIMIT,
        };
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        let reply = Reply::new(&question, limit, out);
        let look = Look { desk: self, zone: &zone, question: &question, asked, reply };
        look.answer()
    }

    /// There is no time or room to find an answer.
    pub(super) fn give_up(&self, packet: &[u8], out: &mut Vec<u8>) -> Verdict {
        match Question::read(packet) {
            Ok(question) => Reply::new(&question, TCP_LIMIT, out).finish(0, SERVER_FAILURE),
            Err(Unanswerable::Ignored) => return Verdict::Silence,
            Err(Unanswerable::Refused(head, code)) => refuse(head, code, out),
        }
        self.counters.count_response(SERVER_FAILURE);
        Verdict::Answered
    }
}

/// By whose word there is none.
enum Authority {
    Nobody,
    Zone,
    Tree(&'static [u8]),
    Other(Arc<Stored>, Age),
}

/// How old what is given is.
#[derive(Clone, Copy)]
enum Age {
    Fresh(Duration),
    Stale,
}

impl Age {
    fn left_of(self, ttl: u32) -> u32 {
        match self {
            Self::Fresh(age) => ttl.saturating_sub(u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
            Self::Stale => STALE_TTL,
        }
    }
}

/// What looking for a name came to.
enum Outcome {
    Found,
    NoData(Authority),
    NoName(Authority),
    Failed,
    Ask(Box<Key>),
}

/// What is known of a name without asking others.
enum Known<'k> {
    Records(Cow<'k, [Datum]>),
    NoName(Authority),
    Nothing,
}

/// One question, being looked at.
struct Look<'a> {
    desk: &'a Desk,
    zone: &'a Zone,
    question: &'a Question<'a>,
    asked: Asked<'a>,
    reply: Reply<'a>,
}

impl<'a> Look<'a> {
    fn answer(mut self) -> Verdict {
        let name = self.question.name();
        let is_ours = !matches!(self.known(name), Known::Nothing);
        let mut outcome = self.resolve(name);
        let mut searching = false;
        if let Outcome::NoName(Authority::Zone) = &outcome
            && self.desk.rules.autopath
            && self.asked.searches
        {
            searching = true;
            outcome = self.follow_search_path().unwrap_or_else(|| {
                self.reply.clear();
                Outcome::NoName(Authority::Zone)
            });
        }
        let (code, authority) = match outcome {
            Outcome::Ask(key) => return Verdict::Ask(key, searching),
            Outcome::Found => (NO_ERROR, Authority::Nobody),
            Outcome::NoData(authority) => (NO_ERROR, authority),
            Outcome::NoName(authority) => (NAME_ERROR, authority),
            Outcome::Failed => (SERVER_FAILURE, Authority::Nobody),
        };
        self.sign(&authority);
        self.desk.counters.count_response(code);
        self.reply.finish(if is_ours { AUTHORITATIVE } else { 0 }, code);
        Verdict::Answered
    }

    /// What a pod that looks for a short name would be told in the end, after all names of its path. It
    /// has asked for the first of them, which does not exist. Nothing if none does.
    fn follow_search_path(&mut self) -> Option<Outcome> {
        let zone = self.zone;
        let [first, others @ ..] = zone.searches(self.asked.from) else { return None };
        let name = self.question.name();
        let short = name::before(name, first.wire()).filter(|short| !short.is_empty())?;
        let whole: &[u8] = b"\0";
        for end in others.iter().map(Name::wire).chain([whole]) {
            let Some(candidate) = Name::concatenated(short, end) else { continue };
            self.reply.clear();
            let content = Content { kind: CNAME, ttl: TTL, data: candidate.wire() };
            self.reply.push(Section::Answer, name, content);
            match self.resolve(candidate.wire()) {
                Outcome::NoName(_) => {}
                // Nobody knows: it goes on by itself, and hears in the end that nobody does.
                Outcome::Failed => return None,
                found @ (Outcome::Found | Outcome::NoData(_)) => {
                    self.desk.counters.count_autopath();
                    return Some(found);
                }
                ask @ Outcome::Ask(_) => return Some(ask),
            }
        }
        None
    }

    /// Writes the records of `name`, and of those that it stands for.
    fn resolve(&mut self, name: &[u8]) -> Outcome {
        let mut current = Cow::Borrowed(name);
        for _ in 0..MOST_ALIASES {
            let next = match self.known(&current) {
                Known::NoName(authority) => return Outcome::NoName(authority),
                Known::Nothing => return self.cached(&current),
                Known::Records(records) => {
                    if self.write(&current, &records) {
                        return Outcome::Found;
                    }
                    let Some(alias) = alias(&records) else {
                        return Outcome::NoData(self.authority_of(&current));
                    };
                    let content = Content { kind: CNAME, ttl: TTL, data: &alias.data };
                    self.reply.push(Section::Answer, &current, content);
                    alias.data.to_vec()
                }
            };
            current = Cow::Owned(next);
        }
        Outcome::Failed
    }

    fn known(&self, name: &[u8]) -> Known<'a> {
        let desk: &'a Desk = self.desk;
        let rules = &desk.rules;
        if let Some(records) = rules.hosts.get(name) {
            return Known::Records(Cow::Borrowed(records));
        }
        let zone = self.zone;
        if let Some(labels) = name::before(name, zone.origin().wire()) {
            return match zone.find(labels) {
                Found::Records(records) => Known::Records(records),
                Found::NoName => Known::NoName(Authority::Zone),
            };
        }
        let Some((address, tree)) = name::reversed(name) else { return Known::Nothing };
        if let Some(records) = rules.host_addresses.get(&address) {
            return Known::Records(Cow::Borrowed(records));
        }
        let records = zone.find_address(address);
        if !records.is_empty() {
            return Known::Records(Cow::Owned(records));
        }
        let is_ours = rules.networks.iter().any(|network| is_within(address, *network));
        if is_ours { Known::NoName(Authority::Tree(tree)) } else { Known::Nothing }
    }

    fn authority_of(&self, name: &[u8]) -> Authority {
        if name::before(name, self.zone.origin().wire()).is_some() {
            return Authority::Zone;
        }
        name::reversed(name).map_or(Authority::Nobody, |(_, tree)| Authority::Tree(tree))
    }

    /// Writes those of `records` that are asked for. False if there is none.
    fn write(&mut self, owner: &[u8], records: &[Datum]) -> bool {
        let asked = self.question.kind;
        let is_asked = |datum: &&Datum| datum.kind == asked || (asked == ANY && datum.kind != 0);
        let count = records.iter().filter(is_asked).count();
        if count == 0 {
            return false;
        }
        // Each time another one comes first.
        let first = usize::from(self.question.head.id) % count;
        let all = records.iter().filter(is_asked);
        for datum in all.clone().skip(first).chain(all.take(first)) {
            let content = Content { kind: datum.kind, ttl: TTL, data: &datum.data };
            self.reply.push(Section::Answer, owner, content);
        }
        if asked == SRV {
            self.write_targets(records);
        }
        true
    }

    /// Adds the addresses of those that SRV records lead to.
    fn write_targets(&mut self, records: &[Datum]) {
        let zone = self.zone;
        let mut written: Vec<&[u8]> = Vec::new();
        for target in records.iter().filter(|datum| datum.kind == SRV).filter_map(|datum| datum.data.get(6..))
        {
            let Some(labels) = name::before(target, zone.origin().wire()) else { continue };
            if written.contains(&target) {
                continue;
            }
            written.push(target);
            let Found::Records(addresses) = zone.find(labels) else { continue };
            for datum in addresses.iter().filter(|datum| datum.kind != 0) {
                let content = Content { kind: datum.kind, ttl: TTL, data: &datum.data };
                self.reply.push(Section::Additional, target, content);
            }
        }
    }

    /// Writes what others said of `name`.
    fn cached(&mut self, name: &[u8]) -> Outcome {
        let counters = &self.desk.counters;
        let key = Key::new(name, self.question.kind, self.question.wants_dnssec());
        let hit = self.desk.cache().get(key.bytes(), self.asked.now);
        let (stored, age) = match hit {
            Some(Hit::Fresh(stored, age)) => (stored, Age::Fresh(age)),
            Some(Hit::Stale(stored)) => {
                counters.count_stale();
                (stored, Age::Stale)
            }
            None => {
                counters.count_miss();
                return Outcome::Ask(Box::new(key));
            }
        };
        let is_negative = stored.answers.is_empty();
        if !self.asked.again {
            counters.count_hit(is_negative);
        }
        for record in &stored.answers {
            let content = Content { kind: record.kind, ttl: age.left_of(record.ttl), data: &record.data };
            self.reply.push(Section::Answer, &record.owner, content);
        }
        match stored.code {
            SERVER_FAILURE => Outcome::Failed,
            NAME_ERROR => Outcome::NoName(Authority::Other(stored, age)),
            _ if is_negative || !stored.authority.is_empty() => {
                Outcome::NoData(Authority::Other(stored, age))
            }
            _ => Outcome::Found,
        }
    }

    fn sign(&mut self, authority: &Authority) {
        let own = self.zone.authority();
        let content = Content { kind: SOA, ttl: TTL, data: &own.data };
        match authority {
            Authority::Nobody => {}
            Authority::Zone => self.reply.push(Section::Authority, self.zone.origin().wire(), content),
            Authority::Tree(tree) => self.reply.push(Section::Authority, tree, content),
            Authority::Other(stored, age) => {
                for record in &stored.authority {
                    let content =
                        Content { kind: record.kind, ttl: age.left_of(record.ttl), data: &record.data };
                    self.reply.push(Section::Authority, &record.owner, content);
                }
            }
        }
    }
}

fn is_within(address: IpAddr, (network, prefix): (IpAddr, u8)) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(prefix.min(32));
            (u32::from(address) ^ u32::from(network)).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(prefix.min(128));
            (u128::from(address) ^ u128::from(network)).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests;
