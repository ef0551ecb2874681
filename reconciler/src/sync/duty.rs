//! Which member of the cluster looks at which source.
//!
//! One does, so that five hundred nodes are one visitor to the repository. The leader decides by
//! what the members say of themselves; it prefers itself, and gives a source that one of them cannot
//! reach to the next. Nothing of it is written: see [`Cluster::say`](crate::store::Cluster::say).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The node that looks at each source, by its name.
pub type Holders = BTreeMap<String, String>;

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Word {
    /// The sources that it is configured with: false if it looks at one, and does not reach it.
    pub sources: BTreeMap<String, bool>,
    /// Of the leader: who looks at what.
    pub holders: Holders,
    /// Nodes that live in its process, beside its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hollow: Option<HollowNodes>,
}

/// Nodes `<prefix>0` to `<prefix><count - 1>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HollowNodes {
    /// What their names begin with.
    pub prefix: String,
    /// How many they are.
    pub count: u32,
}

impl HollowNodes {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|number| format!("{}{number}", self.prefix))
    }
}

/// Who is to look at what from here on, in the leader's words: `me`. `words` are those of every
/// member that was heard lately, the leader's own among them.
#[must_use]
pub fn assign(before: &Holders, me: &str, words: &BTreeMap<String, Word>) -> Holders {
    let mut candidates: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let leader_first =
        words.get_key_value(me).into_iter().chain(words.iter().filter(|(name, _)| *name != me));
    for (name, word) in leader_first {
        for source in word.sources.keys() {
            candidates.entry(source).or_default().push(name);
        }
    }
    let mut holders = Holders::new();
    for (source, candidates) in candidates {
        let held = before.get(source).and_then(|held| candidates.iter().position(|name| name == held));
        let reaches = |name: &str| words[name].sources.get(source).copied().unwrap_or_default();
        let chosen = match held {
            None => 0,
            Some(place) if reaches(candidates[place]) => place,
            Some(place) => (place + 1) % candidates.len(),
        };
        holders.insert(source.to_owned(), candidates[chosen].to_owned());
    }
    holders
}

/// Who looks at what, as one member knows it.
#[derive(Debug, Clone)]
pub struct Duties {
    /// That member's name.
    pub me: String,
    /// The leader's decision; empty while there is no leader.
    pub holders: watch::Receiver<Holders>,
}

impl Duties {
    /// The node looks at all of `sources` for ever: it has no peers.
    #[must_use]
    pub fn alone(sources: impl Iterator<Item = String>) -> Self {
        let me = String::from("this node");
        let holders = sources.map(|source| (source, me.clone())).collect();
        Self { me, holders: watch::Sender::new(holders).subscribe() }
    }

    /// The node that looks at `source`.
    pub(super) fn holder(&self, source: &str) -> Option<String> {
        self.holders.borrow().get(source).cloned()
    }

    /// Waits until this member is to look at `source`; false if that can no longer be.
    pub(super) async fn wait_for(&mut self, source: &str) -> bool {
        let Self { me, holders } = self;
        let mine = |holders: &Holders| holders.get(source) == Some(me);
        // Without a sender, what was said last holds for ever.
        holders.wait_for(mine).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(sources: &[(&str, bool)]) -> Word {
        let sources = sources.iter().map(|(name, reached)| ((*name).to_owned(), *reached)).collect();
        Word { sources, ..Word::default() }
    }

    fn words(all: &[(&str, &[(&str, bool)])]) -> BTreeMap<String, Word> {
        all.iter().map(|(name, sources)| ((*name).to_owned(), word(sources))).collect()
    }

    #[test]
    fn the_leader_looks_where_it_can_and_else_who_is_configured() {
        let all = words(&[("a", &[("one", true)]), ("b", &[("one", true), ("two", true)]), ("c", &[])]);
        let holders = assign(&Holders::new(), "a", &all);
        assert_eq!(holders["one"], "a");
        assert_eq!(holders["two"], "b");
        let holders = assign(&Holders::new(), "c", &all);
        assert_eq!((holders["one"].as_str(), holders["two"].as_str()), ("a", "b"));
    }

    #[test]
    fn who_looks_well_goes_on_and_who_fails_gives_it_to_the_next() {
        let before: Holders = [("one".to_owned(), "b".to_owned())].into();
        let good = words(&[("a", &[("one", true)]), ("b", &[("one", true)]), ("c", &[("one", true)])]);
        assert_eq!(assign(&before, "a", &good)["one"], "b");
        let bad = words(&[("a", &[("one", true)]), ("b", &[("one", false)]), ("c", &[("one", true)])]);
        assert_eq!(assign(&before, "a", &bad)["one"], "c");
        let last: Holders = [("one".to_owned(), "c".to_owned())].into();
        let bad = words(&[("a", &[("one", true)]), ("b", &[("one", true)]), ("c", &[("one", false)])]);
        assert_eq!(assign(&last, "a", &bad)["one"], "a");
    }

    #[test]
    fn who_is_gone_holds_nothing() {
        let before: Holders = [("one".to_owned(), "b".to_owned()), ("old".to_owned(), "a".to_owned())].into();
        let all = words(&[("a", &[("one", true)])]);
        assert_eq!(assign(&before, "a", &all), [("one".to_owned(), "a".to_owned())].into());
    }
}
