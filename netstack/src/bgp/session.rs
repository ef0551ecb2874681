//! A session with a router: the state machine of RFC 4271, section 8, for who connects and does not
//! listen. Events and the time in, actions out; no socket, no clock. Pure.

use super::message::{Fault, Introduction, Message, Open, keepalive, notification};
use super::updates::{Manner, end_of_rib, updates};
use super::{BgpOptions, BgpPeer, BgpState};
use crate::services::Family;
use crate::subnet::Subnet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Until it is known how long a router may be silent. Source: RFC 4271, section 8.2.2.
const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);
/// How long it is until the next attempt: doubled with each that fails.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The connection is there; it begins at the first of these addresses, which are of one link.
    Connected(Vec<IpAddr>),
    /// It did not come, or went.
    Lost(String),
    Received(Message),
    /// What was received makes no sense.
    Garbled(Fault),
    /// Time has passed.
    Tick,
    /// The router is to know these networks.
    Routes(BTreeSet<Subnet>),
    /// The node stops for good.
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Connect,
    Send(Vec<u8>),
    Close,
}

/// What both have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    manner: Manner,
    /// None if nobody minds silence.
    hold_time: Option<Duration>,
    restarts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle {
        until: Instant,
    },
    Connect,
    OpenSent {
        local: Vec<IpAddr>,
        until: Instant,
    },
    OpenConfirm {
        terms: Terms,
        timers: Timers,
    },
    Established {
        terms: Terms,
        timers: Timers,
        told: BTreeSet<Subnet>,
    },
    /// For good.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timers {
    /// The router is taken for lost.
    lost_at: Option<Instant>,
    /// It is to hear something.
    speak_at: Option<Instant>,
}

impl Timers {
    fn start(terms: &Terms, now: Instant) -> Self {
        let after = |time: Duration| now + time;
        Self { lost_at: terms.hold_time.map(after), speak_at: terms.hold_time.map(|time| after(time / 3)) }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    options: BgpOptions,
    peer: BgpPeer,
    state: State,
    wanted: BTreeSet<Subnet>,
    pause: Duration,
    /// No session was established since the program started.
    is_first: bool,
    established: u64,
    last_error: Option<String>,
}

impl Session {
    /// With that router; it begins with the first tick.
    pub(super) fn new(options: BgpOptions, peer: BgpPeer, now: Instant) -> Self {
        let (state, wanted) = (State::Idle { until: now }, BTreeSet::new());
        let (pause, is_first, established, last_error) = (SHORTEST_PAUSE, true, 0, None);
        Self { options, peer, state, wanted, pause, is_first, established, last_error }
    }

    pub(super) const fn state(&self) -> BgpState {
        match self.state {
            State::Idle { .. } | State::Down => BgpState::Idle,
            State::Connect => BgpState::Connect,
            State::OpenSent { .. } => BgpState::OpenSent,
            State::OpenConfirm { .. } => BgpState::OpenConfirm,
            State::Established { .. } => BgpState::Established,
        }
    }

    /// Why it ended last.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// How often it was established.
    pub(super) const fn established(&self) -> u64 {
        self.established
    }

    /// Networks of IPv4 and of IPv6 that the router knows.
    pub(super) fn announced(&self) -> (usize, usize) {
        let State::Established { told, .. } = &self.state else { return (0, 0) };
        let of_v4 = told.iter().filter(|network| network.family() == Family::V4).count();
        (of_v4, told.len() - of_v4)
    }

    /// When the next tick is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.state {
            State::Idle { until } | State::OpenSent { until, .. } => Some(*until),
            State::Connect | State::Down => None,
            State::OpenConfirm { timers, .. } | State::Established { timers, .. } => {
                timers.lost_at.into_iter().chain(timers.speak_at).min()
            }
        }
    }

    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Routes(routes) => {
                self.wanted = routes;
                self.tell()
            }
            Event::Tick => self.tick(now),
            Event::Connected(local) => self.introduce(local, now),
            Event::Lost(why) => self.lose(why, now),
            Event::Garbled(fault) => self.fail(&fault, now),
            Event::Received(message) => self.receive(message, now),
            Event::Shutdown => {
                let says = !matches!(self.state, State::Idle { .. } | State::Connect | State::Down);
                self.state = State::Down;
                let word = says.then(|| Action::Send(notification(&Fault::SHUTDOWN)));
                word.into_iter().chain([Action::Close]).collect()
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match &mut self.state {
            State::Idle { until } if *until <= now => {
                self.state = State::Connect;
                vec![Action::Connect]
            }
            State::OpenSent { until, .. } if *until <= now => self.fail(&Fault::HOLD_TIME, now),
            State::OpenConfirm { timers, .. } | State::Established { timers, .. }
                if is_due(timers.lost_at) =>
            {
                self.fail(&Fault::HOLD_TIME, now)
            }
            State::OpenConfirm { terms, timers } | State::Established { terms, timers, .. }
                if is_due(timers.speak_at) =>
            {
                timers.speak_at = Timers::start(terms, now).speak_at;
                vec![Action::Send(keepalive())]
            }
            State::Idle { .. }
            | State::Connect
            | State::OpenSent { .. }
            | State::OpenConfirm { .. }
            | State::Established { .. }
            | State::Down => Vec::new(),
        }
    }

    fn introduce(&mut self, local: Vec<IpAddr>, now: Instant) -> Vec<Action> {
        if self.state != State::Connect {
            return vec![Action::Close];
        }
        let (v4, v6) = self.next_hops(&local);
        self.state = State::OpenSent { local, until: now + LARGE_HOLD_TIME };
        let families = [v4.map(|_| Family::V4), v6.map(|_| Family::V6)];
        let seconds = |time: Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        let introduction = Introduction {
            asn: self.options.asn,
            hold_time: seconds(self.peer.hold_time),
            router_id: self.options.router_id,
            families: families.into_iter().flatten().collect(),
            restart_time: seconds(self.options.restart_time).min(4095),
            // Whether there was a session before is not known: if there was none, it does no harm.
            restarted: self.is_first,
        };
        vec![Action::Send(introduction.bytes())]
    }

    /// Where routers are to send packets of each family: here.
    fn next_hops(&self, local: &[IpAddr]) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let known = || local.iter().chain(&self.options.addresses);
        let v4 = known().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
        let is_wide = |a: &Ipv6Addr| !a.is_unicast_link_local();
        let v6 = known().find_map(|a| if let IpAddr::V6(a) = a { Some(*a).filter(is_wide) } else { None });
        (v4, v6)
    }

    fn receive(&mut self, message: Message, now: Instant) -> Vec<Action> {
        if let Message::Notification(fault) = message {
            return self.lose(format!("the router says: {}", fault.words()), now);
        }
        match (&mut self.state, message) {
            (State::OpenSent { local, .. }, Message::Open(open)) => {
                let local = std::mem::take(local);
                self.agree(&local, &open, now)
            }
            (State::OpenSent { .. }, _) => self.fail(&Fault::UNEXPECTED[0], now),
            (State::OpenConfirm { terms, timers }, Message::Keepalive) => {
                let (terms, timers) = (terms.clone(), Timers::start(terms, now).keeping(*timers));
                self.establish(terms, timers)
            }
            (State::OpenConfirm { .. }, _) => self.fail(&Fault::UNEXPECTED[1], now),
            (State::Established { .. }, Message::Open(_)) => self.fail(&Fault::UNEXPECTED[2], now),
            (State::Established { terms, timers, told }, message) => {
                *timers = Timers::start(terms, now).keeping(*timers);
                if let Message::Refresh(family) = message {
                    let again = |network: &Subnet| family.is_none_or(|family| network.family() != family);
                    told.retain(again);
                    return self.tell();
                }
                Vec::new()
            }
            (State::Idle { .. } | State::Connect | State::Down, _) => vec![Action::Close],
        }
    }

    /// What both can do; the session is over if they do not fit.
    fn agree(&mut self, local: &[IpAddr], open: &Open, now: Instant) -> Vec<Action> {
        let internal = self.peer.asn == self.options.asn;
        let is_own = internal && open.router_id == self.options.router_id;
        let fault = if open.asn != self.peer.asn {
            Some(Fault::BAD_AS)
        } else if open.router_id.is_unspecified() || is_own {
            Some(Fault::BAD_IDENTIFIER)
        } else {
            None
        };
        if let Some(fault) = fault {
            let why = format!(
                "the router says that it is {} of system {}; {} was expected",
                open.router_id, open.asn, self.peer.asn
            );
            let actions = self.fail(&fault, now);
            self.last_error = Some(why);
            return actions;
        }
        let (v4, v6) = self.next_hops(local);
        let has = |family| open.families.contains(&family);
        let manner = Manner {
            asn: self.options.asn,
            internal,
            as4: open.as4,
            v4: v4.filter(|_| has(Family::V4)),
            v6: v6.filter(|_| has(Family::V6)),
        };
        let hold_time = self.peer.hold_time.min(Duration::from_secs(open.hold_time.into()));
        let hold_time = Some(hold_time).filter(|time| !time.is_zero());
        let terms = Terms { manner, hold_time, restarts: open.restarts };
        let timers = Timers::start(&terms, now);
        self.state = State::OpenConfirm { terms, timers };
        vec![Action::Send(keepalive())]
    }

    fn establish(&mut self, terms: Terms, timers: Timers) -> Vec<Action> {
        let families: Vec<_> = terms.manner.families().filter(|_| terms.restarts).collect();
        self.state = State::Established { terms, timers, told: BTreeSet::new() };
        (self.is_first, self.pause, self.last_error) = (false, SHORTEST_PAUSE, None);
        self.established += 1;
        let mut actions = self.tell();
        // What the router kept of before, and did not hear now, it forgets.
        actions.extend(families.into_iter().map(|family| Action::Send(end_of_rib(family))));
        actions
    }

    /// The router knows what it is to know.
    fn tell(&mut self) -> Vec<Action> {
        let State::Established { terms, told, .. } = &mut self.state else { return Vec::new() };
        let new: BTreeSet<Subnet> = self.wanted.iter().copied().filter(|n| terms.manner.has(*n)).collect();
        let messages = updates(told, &new, &terms.manner);
        *told = new;
        messages.into_iter().map(Action::Send).collect()
    }

    /// The router is told what is wrong, and the session ends.
    fn fail(&mut self, fault: &Fault, now: Instant) -> Vec<Action> {
        if matches!(self.state, State::Down) {
            return Vec::new();
        }
        let mut actions = vec![Action::Send(notification(fault))];
        actions.extend(self.lose(fault.words(), now));
        actions
    }

    /// It is tried again after a while.
    fn lose(&mut self, why: String, now: Instant) -> Vec<Action> {
        if self.state == State::Down {
            return Vec::new();
        }
        self.last_error = Some(why);
        self.state = State::Idle { until: now + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        vec![Action::Close]
    }
}

impl Timers {
    /// Something was heard; what is said does not depend on it.
    fn keeping(self, before: Self) -> Self {
        Self { speak_at: before.speak_at, ..self }
    }
}
