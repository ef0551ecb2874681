//! What has to change. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What has to come, or to be made right, and what has to go, of one kind of thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes<K, V> {
    pub(super) put: Vec<(K, V)>,
    pub(super) gone: Vec<(K, V)>,
}

/// What brings `found` to `wanted`, where putting something replaces one thing of the same key.
pub(super) fn diff<K, V>(wanted: &BTreeMap<K, V>, found: &[(K, V)]) -> Changes<K, V>
where
    K: Ord + Copy,
    V: Ord + Copy,
{
    let known: BTreeSet<(K, V)> = found.iter().copied().collect();
    let is_right = |key: &K| wanted.get(key).map(|value| known.contains(&(*key, *value)));
    let put = wanted.iter().map(|(key, value)| (*key, *value)).filter(|pair| !known.contains(pair));
    // What is to be replaced goes by that; what is beside the right one has to be told to go.
    let gone = known
        .iter()
        .copied()
        .filter(|(key, value)| wanted.get(key) != Some(value) && is_right(key).unwrap_or(true));
    Changes { put: put.collect(), gone: gone.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_right_is_not_touched() {
        let wanted = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let changes = diff(&wanted, &[(1, 'a'), (2, 'x'), (4, 'd'), (3, 'c'), (3, 'y')]);
        assert_eq!(changes, Changes { put: vec![(2, 'b')], gone: vec![(3, 'y'), (4, 'd')] });
    }

    proptest! {
        #[test]
        fn a_second_look_finds_what_is_wanted_or_less_to_do(
            wanted in proptest::collection::btree_map(0u8..6, 0u8..3, 0..6),
            found in proptest::collection::vec((0u8..6, 0u8..3), 0..9),
        ) {
            let mut found: BTreeSet<(u8, u8)> = found.into_iter().collect();
            for _ in 0..2 {
                let changes = diff(&wanted, &found.iter().copied().collect::<Vec<_>>());
                for (key, value) in changes.put {
                    // The kernel replaces one that it has.
                    let first = found.iter().find(|(other, _)| *other == key).copied();
                    first.map(|pair| found.remove(&pair));
                    found.insert((key, value));
                }
                changes.gone.iter().for_each(|pair| { found.remove(pair); });
            }
            prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
