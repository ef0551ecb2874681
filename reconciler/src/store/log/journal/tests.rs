//! What becomes of a journal that is torn, damaged, cut up, or on a disk that fails.

use super::*;
use crate::random::RandomSource as _;
use crate::store::command::SeededRandom;
use crate::store::files::HostFiles;
use crate::store::log::facts::Identity;
use crate::store::raft::{LogId, Vote};
use crate::store::simulation::{Disk, Faults};
use crate::store::wire::EntryMessage;
use openraft::{CommittedLeaderId, EntryPayload};
use prost::Message as _;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

/// An entry of about `size` bytes.
fn append(index: u64, size: usize) -> Change {
    let command = crate::store::command::Command::of(vec![b'v'; size].into());
    let entry = Entry { log_id: id(index), payload: EntryPayload::Normal(command) };
    Change::Append(index, EntryMessage::from(&entry).encode_to_vec())
}

fn folder(dir: &Path, files: Arc<dyn Files>, segment_bytes: u64) -> Folder {
    Folder::open(dir, files).unwrap().of_segments(segment_bytes)
}

fn made(dir: &Path, files: &Arc<dyn Files>, segment_bytes: u64) -> Journal {
    let folder = folder(dir, Arc::clone(files), segment_bytes);
    let identity = Identity { cluster: "test".into(), node: 1 };
    folder.create(&Facts { identity, ..Facts::default() }, Vec::new()).unwrap();
    folder.load().unwrap().0
}

fn opened(dir: &Path, segment_bytes: u64) -> Result<(Journal, Facts), OpenError> {
    Journal::open(folder(dir, Arc::new(HostFiles), segment_bytes))
}

/// The lengths of all entries, by index.
fn shown(journal: &Journal) -> BTreeMap<u64, usize> {
    let (entries, is_all) = journal.entries(0..u64::MAX, usize::MAX).unwrap();
    assert!(is_all);
    entries.iter().map(|entry| (entry.log_id.index, EntryMessage::from(entry).encoded_len())).collect()
}

/// The journal's files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn is_damaged(result: Result<(Journal, Facts), OpenError>, what: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{what}: it was opened"));
    assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Newer { .. }), "{what}: {error:?}");
}

#[test]
fn a_last_write_that_is_torn_anywhere_is_cut_off_and_written_over() {
    let dir = TempDir::new().unwrap();
    let files: Arc<dyn Files> = Arc::new(HostFiles);
    let journal = made(dir.path(), &files, 1 << 17);
    journal.commit(&[append(0, 300), append(1, 700), Change::Vote(Vote::new(3, 2))]).unwrap();
    let before = (shown(&journal), segments(dir.path()).remove(0));
    let short = std::fs::read(&before.1).unwrap();
    journal.commit(&[append(2, 300), append(3, 20)]).unwrap();
    let (whole, after) = (std::fs::read(&before.1).unwrap(), shown(&journal));
    drop(journal);
    let differs: Vec<_> = (0..whole.len()).filter(|at| short.get(*at) != Some(&whole[*at])).collect();
    let (from, to) = (differs[0], differs[differs.len() - 1] + 1);
    for cut in from..to {
        let mut torn = whole[..cut].to_vec();
        // Of two ways to be torn: the file ends here, or what was there is as it was.
        if cut % 2 == 0 {
            torn.extend_from_slice(&short[cut..]);
        }
        std::fs::write(&before.1, &torn).unwrap();
        let (journal, facts) = opened(dir.path(), 1 << 17).unwrap();
        assert_eq!(shown(&journal), before.0, "cut at {cut}");
        assert_eq!(facts.vote, Some(Vote::new(3, 2)));
        journal.commit(&[append(2, 10)]).unwrap();
        let lengths = shown(&journal);
        drop(journal);
        assert_eq!(shown(&opened(dir.path(), 1 << 17).unwrap().0), lengths, "cut at {cut}, gone on");
        assert_eq!(lengths.len(), 3);
    }
    // The end of the write is there, its beginning is not.
    let mut torn = whole.clone();
    torn[from..from + 512].copy_from_slice(&short[from..from + 512]);
    std::fs::write(&before.1, &torn).unwrap();
    assert_eq!(shown(&opened(dir.path(), 1 << 17).unwrap().0), before.0);
    std::fs::write(&before.1, &whole).unwrap();
    assert_eq!(shown(&opened(dir.path(), 1 << 17).unwrap().0), after);
}

#[test]
fn a_bit_that_flips_before_the_last_write_is_damage_and_nothing_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let files: Arc<dyn Files> = Arc::new(HostFiles);
    let journal = made(dir.path(), &files, 1 << 20);
    journal.commit(&[append(0, 200), append(1, 100)]).unwrap();
    journal.commit(&[Change::Vote(Vote::new(2, 1))]).unwrap();
    let path = segments(dir.path()).remove(0);
    let known = std::fs::read(&path).unwrap();
    let used = known.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    journal.commit(&[append(2, 20)]).unwrap();
    let expected = shown(&journal);
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    let mut unseen = 0;
    for at in 0..used {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        match opened(dir.path(), 1 << 20) {
            // Zeros that fill up to the next frame are nobody's.
            Ok((journal, _)) => {
                assert_eq!(shown(&journal), expected);
                unseen += 1;
            }
            opened => is_damaged(opened, &format!("byte {at}")),
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole.len() as u64, "it is left as it is");
    }
    assert!(unseen < 3 * frame::ALIGN, "{unseen}");
}

#[test]
fn files_follow_one_another_and_go_when_all_in_them_is_purged() {
    let dir = TempDir::new().unwrap();
    let files: Arc<dyn Files> = Arc::new(HostFiles);
    let journal = made(dir.path(), &files, 4000);
    for index in 0..60 {
        journal.commit(&[append(index, 500)]).unwrap();
    }
    let paths = segments(dir.path());
    assert!(paths.len() > 5, "{paths:?}");
    let all = shown(&journal);
    assert_eq!(all.len(), 60);
    drop(journal);
    let (journal, _) = opened(dir.path(), 4000).unwrap();
    assert_eq!(shown(&journal), all);
    let newest: Vec<_> = journal.newest(1200).unwrap().iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(newest, [58, 59]);
    let (some, is_all) = journal.entries(7..50, 3000).unwrap();
    assert!(!is_all && some.len() == 5 && some[0].log_id.index == 7, "{}", some.len());
    drop(journal);
    for path in &paths[..paths.len() - 1] {
        let held = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        is_damaged(opened(dir.path(), 4000), &format!("without {}", path.display()));
        std::fs::write(path, &held[..held.len() / 2]).unwrap();
        is_damaged(opened(dir.path(), 4000), &format!("half of {}", path.display()));
        std::fs::write(path, held).unwrap();
    }
    let (journal, _) = opened(dir.path(), 4000).unwrap();
    journal.commit(&[Change::Truncate(55)]).unwrap();
    journal.commit(&[append(55, 10), Change::Purge(id(49))]).unwrap();
    let left = shown(&journal);
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), (50..=55).collect::<Vec<_>>());
    let kept = segments(dir.path());
    assert!(kept.len() < 5, "{kept:?}");
    drop(journal);
    // One of those that were removed is there again, by a power cut.
    std::fs::write(&paths[0], b"whatever").unwrap();
    let (journal, facts) = opened(dir.path(), 4000).unwrap();
    assert_eq!((shown(&journal), facts.purged), (left, Some(id(49))));
    assert_eq!(segments(dir.path()), kept);
    journal.commit(&[Change::Purge(id(90)), append(91, 10)]).unwrap();
    drop(journal);
    assert_eq!(shown(&opened(dir.path(), 4000).unwrap().0).into_keys().collect::<Vec<_>>(), [91]);
}

#[test]
fn a_copy_of_a_frame_within_an_entry_is_not_taken_for_one() {
    let dir = TempDir::new().unwrap();
    let files: Arc<dyn Files> = Arc::new(HostFiles);
    let journal = made(dir.path(), &files, 1 << 20);
    journal.commit(&[append(0, 100)]).unwrap();
    let path = segments(dir.path()).remove(0);
    let short = std::fs::read(&path).unwrap();
    let used = short.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Somebody stores what they have read from the disk, at every alignment.
    let entry: Vec<u8> = (0..8).flat_map(|shift| [vec![0; shift], short[..used].to_vec()].concat()).collect();
    journal.commit(&[Change::Append(1, entry)]).unwrap();
    drop(journal);
    let mut torn = std::fs::read(&path).unwrap();
    let begin = (0..torn.len()).find(|at| short[*at] != torn[*at]).unwrap();
    torn[begin..begin + 16].fill(0);
    std::fs::write(&path, torn).unwrap();
    assert_eq!(shown(&opened(dir.path(), 1 << 20).unwrap().0).len(), 1, "the torn write is cut off");
}

/// What a journal should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    entries: BTreeMap<u64, usize>,
    next: u64,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

impl Model {
    fn after(&self, changes: &[Change]) -> Self {
        let mut next = self.clone();
        for change in changes {
            match change {
                Change::Append(index, bytes) => {
                    next.entries.insert(*index, bytes.len());
                    next.next = index + 1;
                }
                Change::Truncate(from) => {
                    next.entries.retain(|index, _| index < from);
                    next.next = *from;
                }
                Change::Purge(through) => {
                    next.entries.retain(|index, _| *index > through.index);
                    next.purged = Some(*through);
                    next.next = next.next.max(through.index + 1);
                }
                Change::Vote(vote) => next.vote = Some(*vote),
            }
        }
        next
    }

    fn of(journal: &Journal, facts: &Facts) -> Self {
        let next = journal.places().next();
        Self { entries: shown(journal), next, vote: facts.vote, purged: facts.purged }
    }

    fn some_changes(&self, chance: &mut SeededRandom) -> Vec<Change> {
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        match chance.next() % 12 {
            0 => vec![Change::Vote(Vote::new(chance.next() % 1000, 1))],
            1 if self.next > first => vec![Change::Truncate(first + chance.next() % (self.next - first))],
            2 if self.next > first => vec![Change::Purge(id(first + chance.next() % (self.next - first)))],
            3 => vec![Change::Purge(id(self.next + chance.next() % 5))],
            _ => {
                let count = chance.next() % 4 + 1;
                let size = usize::try_from(chance.next() % 2500).unwrap();
                (self.next..self.next + count).map(|index| append(index, size)).collect()
            }
        }
    }
}

/// Changes on a disk that fails, fills up and loses power, and processes that are killed. Says how
/// often it was opened again.
fn ordeal(seed: u64) -> usize {
    let dir = TempDir::new().unwrap();
    let mut chance = SeededRandom::new([seed, 7]);
    let disk = Disk::new(seed);
    let mut journal = made(dir.path(), &disk.mount(), 6000);
    let (mut known, mut opened, mut is_fused) = (Model::default(), 0, false);
    for _ in 0..120 {
        let changes = known.some_changes(&mut chance);
        let faults = match chance.next() % 8 {
            0 => Faults { loses: true, ..Faults::default() },
            1 => Faults { is_full: true, ..Faults::default() },
            2 => Faults { refuses_writes: true, ..Faults::default() },
            _ => Faults::default(),
        };
        disk.set(faults);
        if chance.next().is_multiple_of(6) {
            disk.cut_power_after(chance.next() % 8);
            is_fused = true;
        }
        let mut tries = 1 + chance.next() % 3;
        let mut is_done = journal.commit(&changes).is_ok();
        while !is_done && tries > 0 {
            tries -= 1;
            if chance.next().is_multiple_of(2) {
                disk.set(Faults::default());
            }
            is_done = journal.commit(&changes).is_ok();
        }
        let after = known.after(&changes);
        if is_done {
            known = after.clone();
        }
        if is_done && !chance.next().is_multiple_of(4) {
            continue;
        }
        drop(journal);
        // What a killed process wrote is seen; after a power cut, some of it.
        if chance.next().is_multiple_of(2) || is_fused {
            disk.cut_power();
            is_fused = false;
        }
        let files = disk.mount();
        let open = || Journal::open(folder(dir.path(), Arc::clone(&files), 6000));
        let first = open();
        let (again, facts) = first
            .or_else(|_| {
                disk.set(Faults::default());
                open()
            })
            .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let found = Model::of(&again, &facts);
        assert!(found == known || found == after, "seed {seed}: {known:?}\n or {after:?}\n is {found:?}");
        (journal, known) = (again, found);
        opened += 1;
    }
    opened
}

#[test]
fn whatever_becomes_of_the_disk_what_was_committed_is_there_and_nothing_else() {
    let seeds = std::env::var("KEEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let opened: usize = (0..seeds).map(ordeal).sum();
    assert!(opened > usize::try_from(seeds).unwrap() * 10, "{opened}");
}
