//! Old elements, new elements → what changes.

use super::model::{Target, Transport};
use super::table::{Content, Contents, Frontend, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// Elements that go, and elements that come after that; what is replaced is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) removed: BTreeMap<Slot, Content>,
    pub(super) added: BTreeMap<Slot, Content>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// UDP frontends with targets that they no longer lead to, by what is now.
    pub(super) fn forsaken(&self, now: &Contents) -> BTreeSet<(Frontend, Target)> {
        let lost = self.removed.iter().filter_map(|(slot, content)| match (slot, content) {
            (Slot::Endpoint(frontend, _), Content::Target(target))
                if frontend.transport == Transport::Udp =>
            {
                Some((*frontend, *target))
            }
            _ => None,
        });
        lost.filter(|(frontend, target)| !leads_to(now, *frontend, *target)).collect()
    }
}

fn leads_to(contents: &Contents, frontend: Frontend, target: Target) -> bool {
    let all = Slot::Endpoint(frontend, 0)..=Slot::Endpoint(frontend, u32::MAX);
    contents.range(all).any(|(_, content)| *content == Content::Target(target))
}

/// What makes `new` of `old`.
pub(super) fn diff(old: &Contents, new: &Contents) -> Changes {
    let mut changes = Changes::default();
    for (slot, content) in old {
        if new.get(slot) != Some(content) {
            changes.removed.insert(*slot, *content);
        }
    }
    for (slot, content) in new {
        if old.get(slot) != Some(content) {
            changes.added.insert(*slot, *content);
        }
    }
    changes
}

/// `contents` after the changes.
#[cfg(test)]
pub(super) fn apply(contents: &mut Contents, changes: &Changes) {
    for slot in changes.removed.keys() {
        contents.remove(slot);
    }
    contents.extend(changes.added.iter().map(|(slot, content)| (*slot, *content)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::testing::contents;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_changes_make_new_of_old(old in contents(), new in contents()) {
            let changes = diff(&old, &new);
            let mut changed = old.clone();
            apply(&mut changed, &changes);
            prop_assert_eq!(&changed, &new);
            prop_assert!(changes.removed.iter().all(|(slot, content)| old.get(slot) == Some(content)));
            prop_assert!(changes.removed.iter().all(|(slot, content)| new.get(slot) != Some(content)));
            prop_assert!(changes.added.iter().all(|(slot, content)| old.get(slot) != Some(content)));
            prop_assert!(diff(&new, &new).is_empty());
        }

        #[test]
        fn only_who_is_asked_no_more_is_forsaken(old in contents(), new in contents()) {
            for (frontend, target) in diff(&old, &new).forsaken(&new) {
                prop_assert!(leads_to(&old, frontend, target) && !leads_to(&new, frontend, target));
                prop_assert_eq!(frontend.transport, Transport::Udp);
            }
        }
    }
}
