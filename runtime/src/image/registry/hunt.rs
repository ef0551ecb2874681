//! Which peer is asked next for a blob; pure.

use super::super::digest::hex_of;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// For so long peers may give too little before the registry is asked in their place.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Less than this in [`PATIENCE`] is too little.
pub(super) const ENOUGH_BYTES: u64 = 256 << 10;

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(String),
    /// All that may still give something were asked; ask again a moment later.
    Wait,
    /// Nothing comes from peers.
    GiveUp,
}

/// What a peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// So many bytes.
    Bytes(u64),
    /// Later.
    NotNow,
    /// It has nothing, or is gone.
    Nothing,
}

/// The search for one blob.
#[derive(Debug)]
pub(super) struct Hunt {
    /// Peers begin at another place for each blob, so that several give at once.
    turn: usize,
    /// Nothing is expected of them any more.
    out: BTreeSet<String>,
    /// In this round, without a byte.
    asked: BTreeSet<String>,
    gained: u64,
    /// When enough had come the last time, and how much that was.
    mark: (Instant, u64),
}

impl Hunt {
    pub(super) fn new(digest: &str, now: Instant) -> Self {
        let turn = hex_of(digest).ok().and_then(|hex| usize::from_str_radix(&hex[..4], 16).ok());
        let (out, asked) = (BTreeSet::new(), BTreeSet::new());
        Self { turn: turn.unwrap_or_default(), out, asked, gained: 0, mark: (now, 0) }
    }

    /// Whom of `peers` to ask now. One that gives is asked on.
    pub(super) fn next(&mut self, peers: &[String], now: Instant) -> Next {
        if now >= self.mark.0 + PATIENCE {
            return Next::GiveUp;
        }
        let turn = self.turn.checked_rem(peers.len()).unwrap_or_default();
        let mut hopeful = peers[turn..].iter().chain(&peers[..turn]).filter(|peer| !self.out.contains(*peer));
        match hopeful.clone().find(|peer| !self.asked.contains(*peer)) {
            Some(peer) => Next::Ask(peer.clone()),
            None if hopeful.next().is_some() => {
                self.asked.clear();
                Next::Wait
            }
            None => Next::GiveUp,
        }
    }

    /// `peer` said `what`.
    pub(super) fn heard(&mut self, peer: &str, what: Heard, now: Instant) {
        match what {
            Heard::Bytes(bytes) => {
                self.gained += bytes;
                if self.gained - self.mark.1 >= ENOUGH_BYTES {
                    self.mark = (now, self.gained);
                }
            }
            Heard::NotNow => {
                self.asked.insert(peer.to_owned());
            }
            Heard::Nothing => {
                self.out.insert(peer.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn hunt(turn: usize, now: Instant) -> Hunt {
        Hunt::new(&format!("sha256:{turn:04x}{}", "0".repeat(60)), now)
    }

    fn ask(name: &str) -> Next {
        Next::Ask(name.to_owned())
    }

    #[test]
    fn who_gives_is_asked_on_and_who_has_nothing_never_again() {
        let (now, peers) = (Instant::now(), names(&["a", "b", "c"]));
        let mut hunt = hunt(0, now);
        assert_eq!(hunt.next(&peers, now), ask("a"));
        hunt.heard("a", Heard::Bytes(1), now);
        assert_eq!(hunt.next(&peers, now), ask("a"));
        hunt.heard("a", Heard::Nothing, now);
        assert_eq!(hunt.next(&peers, now), ask("b"));
        hunt.heard("b", Heard::Nothing, now);
        hunt.heard("c", Heard::Nothing, now);
        assert_eq!(hunt.next(&peers, now), Next::GiveUp);
        // One that was not known before.
        assert_eq!(hunt.next(&names(&["a", "d"]), now), ask("d"));
    }

    #[test]
    fn all_are_asked_before_any_is_waited_for() {
        let (now, peers) = (Instant::now(), names(&["a", "b"]));
        let mut hunt = hunt(1, now);
        assert_eq!(hunt.next(&peers, now), ask("b"));
        hunt.heard("b", Heard::NotNow, now);
        assert_eq!(hunt.next(&peers, now), ask("a"));
        hunt.heard("a", Heard::NotNow, now);
        assert_eq!(hunt.next(&peers, now), Next::Wait);
        assert_eq!(hunt.next(&peers, now), ask("b"));
    }

    #[test]
    fn patience_ends_with_those_who_give_next_to_nothing() {
        let (start, peers) = (Instant::now(), names(&["a"]));
        let (mut trickle, mut flow) = (hunt(0, start), hunt(0, start));
        let mut now = start;
        for _ in 0..40 {
            now += PATIENCE / 30;
            trickle.heard("a", Heard::Bytes(1), now);
            flow.heard("a", Heard::Bytes(ENOUGH_BYTES / 20), now);
        }
        assert_eq!(trickle.next(&peers, now), Next::GiveUp);
        assert_eq!(flow.next(&peers, now), ask("a"));
        assert_eq!(flow.next(&[], now), Next::GiveUp);
    }
}
