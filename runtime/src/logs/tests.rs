use super::*;
use futures::{StreamExt, TryStreamExt};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;
use tempfile::TempDir;

struct World(TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self, name: &str, time: &str) {
        fs::rename(self.0.path().join(name), self.0.path().join(format!("{name}.{time}"))).unwrap();
    }

    async fn read(&self, options: LogOptions) -> String {
        let pieces: Vec<Bytes> = Logs::new(self.0.path()).read(options).unwrap().try_collect().await.unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn follow(&self, options: LogOptions) -> Follower {
        let stream = Logs::new(self.0.path()).read(LogOptions { follow: true, ..options }).unwrap();
        Follower { stream: Box::pin(stream), seen: String::new() }
    }
}

struct Follower {
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    seen: String,
}

impl Follower {
    /// Waits until all that was given out is `wanted`.
    async fn sees(&mut self, wanted: &str) {
        while self.seen != wanted {
            let next = tokio::time::timeout(Duration::from_secs(30), self.stream.next());
            let piece = next.await.unwrap_or_else(|_| panic!("only {:?} of {wanted:?} came", self.seen));
            self.seen.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
            assert!(wanted.starts_with(&self.seen), "{:?} is not the start of {wanted:?}", self.seen);
        }
    }

    async fn ends(mut self) {
        let next = tokio::time::timeout(Duration::from_secs(30), self.stream.next());
        assert!(next.await.expect("it ends").is_none());
    }
}

fn line(second: u32, tag: char, text: &str) -> String {
    format!("2026-01-02T15:04:{second:02}.000000001Z stdout {tag} {text}\n")
}

/// Lines numbered from `from`, one per second.
fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| line(number % 60, 'F', &format!("line {number}"))).collect()
}

fn text(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("line {number}\n")).collect()
}

#[tokio::test]
async fn parts_are_joined_and_lines_without_form_are_left_out() {
    let world = World::new();
    world.append("0.log", &line(1, 'P', "one "));
    world.append("0.log", "no record\n\n2026 stdout X text\n");
    world.append("0.log", &line(2, 'F', "line"));
    world.append("0.log", &line(3, 'F', ""));
    world.append("0.log", &line(4, 'P', "open end"));
    world.append("0.log", "2026-01-02T15:04:05.0Z stdout F half a rec");
    assert_eq!(world.read(LogOptions::default()).await, "one line\n\nopen end");
    let stamped = world.read(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let at = |second| format!("2026-01-02T15:04:0{second}.000000001Z ");
    assert_eq!(stamped, format!("{}one line\n{}\n{}open end", at(1), at(3), at(4)));
}

#[tokio::test]
async fn the_newest_run_is_read_through_all_its_files() {
    let world = World::new();
    world.append("0.log", &lines(0..5));
    world.append("1.log", &lines(5..10));
    world.rotate("1.log", "20260102-150410");
    world.append("1.log", &lines(10..15));
    world.rotate("1.log", "20260102-150420");
    world.append("1.log", &lines(15..20));
    assert_eq!(world.read(LogOptions::default()).await, text(5..20));
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(world.read(previous).await, text(0..5));
    for wanted in [0, 1, 4, 5, 6, 12, 15, 99] {
        let from = 20 - wanted.min(15);
        let tail = LogOptions { tail: Some(u64::from(wanted)), ..LogOptions::default() };
        assert_eq!(world.read(tail).await, text(from..20), "tail {wanted}");
    }
}

#[tokio::test]
async fn the_tail_counts_lines_and_not_their_parts() {
    let world = World::new();
    let long = |number: u32| line(1, 'P', &format!("{number}-a ")) + &line(1, 'P', "b ") + &line(1, 'F', "c");
    world.append("0.log", &(long(1) + &long(2) + &long(3)));
    let tail = |lines| LogOptions { tail: Some(lines), ..LogOptions::default() };
    assert_eq!(world.read(tail(2)).await, "2-a b c\n3-a b c\n");
    world.append("0.log", &line(2, 'P', "open"));
    assert_eq!(world.read(tail(2)).await, "3-a b c\nopen");
    assert_eq!(world.read(tail(1)).await, "open");
}

#[tokio::test]
async fn the_tail_of_a_long_file_is_found_from_its_end() {
    let world = World::new();
    world.append("0.log", &lines(0..20_000));
    for wanted in [1, 100, 5_000, 19_999, 20_000, 20_001] {
        let tail = LogOptions { tail: Some(wanted), ..LogOptions::default() };
        let from = 20_000 - u32::try_from(wanted.min(20_000)).unwrap();
        assert!(world.read(tail).await == text(from..20_000), "tail {wanted}");
    }
}

#[tokio::test]
async fn since_and_the_limit_cut_what_is_given_out() {
    let world = World::new();
    world.append("0.log", &lines(0..30));
    let since = "2026-01-02T15:04:27Z".parse().unwrap();
    let recent = LogOptions { since: Some(since), ..LogOptions::default() };
    assert_eq!(world.read(recent.clone()).await, text(27..30));
    let limited = LogOptions { limit_bytes: Some(10), ..LogOptions::default() };
    assert_eq!(world.read(limited.clone()).await, "line 0\nlin");
    assert_eq!(world.read(LogOptions { limit_bytes: Some(3), ..recent }).await, "lin");
    let follower = world.follow(limited);
    let mut follower = follower;
    follower.sees("line 0\nlin").await;
    follower.ends().await;
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let world = World::new();
    assert_eq!(world.read(LogOptions::default()).await, "");
    let previous = Logs::new(world.0.path()).read(LogOptions { previous: true, ..LogOptions::default() });
    assert_eq!(previous.err().unwrap().kind(), io::ErrorKind::NotFound);
    for follow in [false, true] {
        let absent =
            Logs::new(world.0.path().join("no")).read(LogOptions { follow, ..LogOptions::default() });
        assert_eq!(absent.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn following_sees_writes_rotation_restarts_and_the_end() {
    let world = World::new();
    let mut follower = world.follow(LogOptions::default());
    world.append("0.log", &lines(0..2));
    follower.sees(&text(0..2)).await;
    let next = lines(2..3);
    world.append("0.log", &next[..10]);
    world.append("0.log", &next[10..]);
    follower.sees(&text(0..3)).await;
    world.append("0.log", &lines(3..4));
    world.rotate("0.log", "20260102-150410");
    world.append("0.log", &lines(4..5));
    follower.sees(&text(0..5)).await;
    world.append("0.log", &lines(5..6));
    world.append("1.log", &lines(6..7));
    follower.sees(&text(0..7)).await;
    // Two files later at once.
    world.rotate("1.log", "20260102-150420");
    world.append("1.log", &lines(7..8));
    world.rotate("1.log", "20260102-150430");
    world.append("1.log", &lines(8..9));
    world.append("2.log", &lines(9..10));
    follower.sees(&text(0..10)).await;
    fs::remove_dir_all(world.0.path()).unwrap();
    follower.ends().await;
}

#[tokio::test]
async fn following_from_the_tail_gives_only_what_is_new() {
    let world = World::new();
    world.append("0.log", &lines(0..9));
    let mut follower = world.follow(LogOptions { tail: Some(0), ..LogOptions::default() });
    world.append("0.log", &lines(9..10));
    follower.sees(&text(9..10)).await;
}
