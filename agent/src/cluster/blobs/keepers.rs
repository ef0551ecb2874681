//! Who of the members keeps in mind who has an image: for each image others, and for all members
//! the same; pure.

use super::wire::Known;
use runtime::image::registry::Sought;
use std::collections::BTreeMap;

/// So many keep it in mind: the first that answers decides who fetches.
pub(super) const KEEPERS: usize = 3;

/// FNV-1a, and then mixed: names that differ in one letter are far from each other.
fn hash(parts: [&str; 2]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The keepers of `image`, in their order. When a member comes or goes, few images change theirs.
pub(super) fn of(image: &str, members: &[String]) -> Vec<String> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_cached_key(|name| (hash([name, image]), (*name).clone()));
    members.into_iter().take(KEEPERS).cloned().collect()
}

/// What comes of what was heard, by whom it was said; `keepers` in their order.
pub(super) fn sought(me: &str, keepers: &[String], heard: &BTreeMap<String, Known>) -> Sought {
    let word = keepers.iter().find_map(|keeper| heard.get(keeper));
    let nobody_before = word.is_none_or(|known| known.have.is_empty() && known.getting.is_empty());
    let has = heard.iter().filter(|(_, known)| known.has).map(|(name, _)| name);
    let first = nobody_before && has.clone().next().is_none();
    let have = heard.values().flat_map(|known| &known.have);
    let getting = heard.values().flat_map(|known| &known.getting);
    let mut peers: Vec<String> = Vec::new();
    for name in has.chain(have).chain(getting) {
        if name != me && !peers.contains(name) {
            peers.push(name.clone());
        }
    }
    Sought { first, peers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("node-{number}")).collect()
    }

    #[test]
    fn all_agree_on_the_keepers_and_all_are_keepers_of_some() {
        let all = members(50);
        let mut reversed = all.clone();
        reversed.reverse();
        let mut work: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..1000 {
            let image = format!("sha256:{number:064x}");
            let keepers = of(&image, &all);
            assert_eq!(keepers, of(&image, &reversed));
            assert_eq!(keepers.iter().collect::<BTreeSet<_>>().len(), KEEPERS);
            keepers.into_iter().for_each(|keeper| *work.entry(keeper).or_default() += 1);
            // One member less: only its own place is taken by another.
            let fewer: Vec<_> = of(&image, &all[1..]);
            let before: Vec<_> = of(&image, &all).into_iter().filter(|name| *name != "node-0").collect();
            assert_eq!(fewer[..before.len()], before);
        }
        // 60 each, if it were even.
        assert_eq!(work.len(), 50);
        assert!(work.values().all(|images| (20..140).contains(images)), "{work:?}");
        assert_eq!(of("i", &members(1)), members(1));
    }

    #[test]
    fn the_first_keeper_that_answers_decides() {
        let keepers: Vec<String> = ["k1", "k2", "k3"].map(str::to_owned).into();
        let getting = |names: &[&str]| Known {
            getting: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Known::default()
        };
        let mut heard = BTreeMap::from([("k2".to_owned(), Known::default()), ("k3".into(), getting(&["a"]))]);
        let found = sought("me", &keepers, &heard);
        assert_eq!((found.first, found.peers), (true, vec!["a".to_owned()]));
        heard.insert("k1".into(), getting(&["b", "me"]));
        let found = sought("me", &keepers, &heard);
        assert_eq!((found.first, found.peers), (false, vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(sought("me", &keepers, &BTreeMap::new()), Sought { first: true, peers: Vec::new() });
        // Who has it comes before who is said to have it.
        heard.insert("x".into(), Known { has: true, have: vec!["y".into()], ..Known::default() });
        assert_eq!(sought("me", &keepers, &heard).peers, ["x", "y", "b", "a"]);
    }
}
