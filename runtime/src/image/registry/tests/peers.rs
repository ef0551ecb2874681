//! Nodes that give one another what they have, and some that should not.

use super::server::{Blob, Server, digest, gzip, layer};
use super::{NAME, file};
use crate::image::error::ImageError;
use crate::image::registry::*;
use crate::image::{Image, ImageStore, PullPolicy};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// How registries are called here; each node finds the server, or nobody.
const FAR: &str = "far.example.com";

/// What a node does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Vice {
    None,
    /// One byte of what it gives is another.
    Falsifies,
    /// It is gone after so many parts.
    DiesAfter(usize),
}

/// All nodes, and who said first that it gets an image.
#[derive(Debug, Default)]
struct Village {
    nodes: Mutex<BTreeMap<String, (Arc<Puller>, Vice)>>,
    getting: Mutex<Vec<String>>,
    failures: Mutex<Vec<Failure>>,
}

#[derive(Debug, Clone)]
struct Villager {
    me: String,
    village: Arc<Village>,
}

impl Counts for Villager {
    fn fetched(&self, _: Source, _: u64, _: u64) {}
    fn failed(&self, how: Failure) {
        self.village.failures.lock().unwrap().push(how);
    }
    fn served(&self, _: u64) {}
}

impl Villager {
    async fn give(self, peer: String, wanted: PartWanted) -> Result<Part, ReadError> {
        let (puller, vice) = {
            let mut nodes = self.village.nodes.lock().unwrap();
            let (puller, vice) = nodes.get_mut(&peer).ok_or("nobody there")?;
            match vice {
                Vice::DiesAfter(0) => return Err("the connection broke".into()),
                Vice::DiesAfter(parts) if wanted.most > 100_000 => *parts -= 1,
                Vice::None | Vice::Falsifies | Vice::DiesAfter(_) => {}
            }
            (Arc::clone(puller), *vice)
        };
        let mut part = puller.part(&wanted).await;
        if let Part::Content { content, .. } = &mut part
            && vice == Vice::Falsifies
        {
            let mut bytes = content.to_vec();
            bytes[0] ^= 1;
            *content = bytes.into();
        }
        Ok(part)
    }
}

impl Neighbours for Villager {
    fn seek(&self, image: String, can_fetch: bool) -> BoxFuture<'static, Sought> {
        let nodes = self.village.nodes.lock().unwrap();
        let others = nodes.iter().filter(|(name, _)| **name != self.me);
        let have = others.filter(|(_, (puller, _))| puller.has_image(&image)).map(|(name, _)| name.clone());
        let mut peers: Vec<_> = have.collect();
        let mut getting = self.village.getting.lock().unwrap();
        let mut before: Vec<_> = getting.iter().take_while(|name| **name != self.me).cloned().collect();
        let first = peers.is_empty() && before.is_empty();
        if can_fetch && !getting.contains(&self.me) {
            getting.push(self.me.clone());
        }
        before.retain(|name| !peers.contains(name));
        peers.append(&mut before);
        std::future::ready(Sought { first, peers }).boxed()
    }

    fn announce(&self, _: String) -> BoxFuture<'static, ()> {
        self.village.getting.lock().unwrap().retain(|name| *name != self.me);
        std::future::ready(()).boxed()
    }

    fn read(&self, peer: String, wanted: PartWanted) -> BoxFuture<'static, Result<Part, ReadError>> {
        self.clone().give(peer, wanted).boxed()
    }

    fn meaning(&self, wanted: MeaningWanted) -> BoxFuture<'static, Vec<(String, Meaning)>> {
        let nodes = self.village.nodes.lock().unwrap();
        let others = nodes.iter().filter(|(name, _)| **name != self.me);
        let known = others.filter_map(|(name, (puller, _))| Some((name.clone(), puller.meaning(&wanted)?)));
        std::future::ready(known.collect()).boxed()
    }
}

struct Node {
    folder: tempfile::TempDir,
    puller: Arc<Puller>,
}

struct Bench {
    server: Server,
    village: Arc<Village>,
}

impl Bench {
    async fn new() -> Self {
        Self { server: Server::start().await, village: Arc::default() }
    }

    /// A node that finds the registry, or does not.
    fn node(&self, name: &str, reaches: bool, vice: Vice) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap().keeping_blobs(true).unwrap();
        let host = if reaches { self.server.host() } else { "127.0.0.1:1" };
        let origin = Endpoint::usual(host);
        let hosts = vec![RegistryHost { name: FAR.to_owned(), mirrors: Vec::new(), origin }];
        let villager = Villager { me: name.to_owned(), village: Arc::clone(&self.village) };
        let puller = Puller::new(Arc::new(store), Registries { hosts, credentials_file: None }, 2);
        let puller = puller.among(Arc::new(villager.clone())).counted_by(Arc::new(villager));
        let puller = Arc::new(puller);
        let known = (Arc::clone(&puller), vice);
        self.village.nodes.lock().unwrap().insert(name.to_owned(), known);
        Node { folder, puller }
    }

    fn failures(&self) -> Vec<Failure> {
        self.village.failures.lock().unwrap().clone()
    }

    /// How often the registry gave a blob or a manifest.
    fn gifts(&self) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|path| path.starts_with(&format!("/v2/{NAME}/"))).count()
    }

    fn login(&self) -> Credentials {
        Credentials::password(self.server.host(), "me", "secret")
    }
}

impl Node {
    async fn pull_as(
        &self,
        tag: &str,
        policy: PullPolicy,
        who: &Credentials,
    ) -> Result<(Image, Provenance), ImageError> {
        let (image, from) = self.puller.pull(&format!("{FAR}/{NAME}:{tag}"), policy, who).await?;
        Ok((image, from.unwrap_or_default()))
    }

    async fn pull(&self, tag: &str) -> Result<(Image, Provenance), ImageError> {
        self.pull_as(tag, PullPolicy::IfNotPresent, &Credentials::default()).await
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.folder.path().join("blobs/sha256")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    /// What is unfinished.
    fn downloads(&self) -> usize {
        let folder = std::fs::read_dir(self.folder.path().join("downloads/blobs/sha256"));
        folder.map_or(0, Iterator::count)
    }
}

/// Several parts.
fn large() -> (String, Blob) {
    let noise = |n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 28) as u8);
    let text: String = (0..PART_BYTES * 5).map(noise).collect();
    let blob = Blob::plain(layer("big", &text));
    (text, blob)
}

#[tokio::test]
async fn peers_give_all_of_an_image_and_the_registry_says_only_what_its_name_means() {
    let bench = Bench::new().await;
    let (text, big) = large();
    bench.server.add_index(NAME, "v1", &[big, gzip(&layer("a", "one"))]);
    let (n1, n2) = (bench.node("n1", true, Vice::None), bench.node("n2", true, Vice::None));
    let (first, from) = n1.pull("v1").await.unwrap();
    assert_eq!((from.peers.len(), from.registries[bench.server.host()].blobs), (0, 5));
    let gifts = bench.gifts();
    let (image, from) = n2.pull("v1").await.unwrap();
    assert_eq!(bench.gifts(), gifts, "{:?}", bench.server.requests());
    assert_eq!((image.id, image.digest), (first.id, first.digest));
    assert_eq!((from.peers["n1"].blobs, from.registries.len(), from.word_of), (5, 0, None));
    let (image, _) = n2.pull("v1").await.unwrap();
    assert_eq!((file(&image, "a"), file(&image, "big")), ("one".into(), text));
    // Both can give it on, and nothing is left that is not needed.
    assert_eq!([n1.blobs().len(), n2.blobs().len()], [5, 5]);
    assert_eq!([n1.downloads(), n2.downloads()], [0, 0]);
    // It goes with the image.
    let store = n2.puller.store();
    store.remove(&image.id, &std::collections::BTreeSet::new()).unwrap();
    assert_eq!(n2.blobs().len(), 0);
}

#[tokio::test]
async fn what_a_peer_falsifies_comes_from_somebody_else() {
    let bench = Bench::new().await;
    let (text, big) = large();
    bench.server.add(NAME, "v1", &[big]);
    let (n1, n2) = (bench.node("n1", true, Vice::Falsifies), bench.node("n2", true, Vice::None));
    n1.pull("v1").await.unwrap();
    let (image, from) = n2.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), text);
    assert_eq!(from.registries[bench.server.host()].blobs, 3);
    assert_eq!(bench.failures(), [Failure::Corrupt]);

    // Who does not reach the registry gets nothing false, and later the truth of another.
    let n3 = bench.node("n3", false, Vice::None);
    bench.village.nodes.lock().unwrap().remove("n2");
    let refused = n3.pull("v1").await.unwrap_err();
    assert!(matches!(refused, ImageError::NoPeer { .. }), "{refused:?}");
    assert_eq!((n3.downloads(), n3.blobs().len()), (0, 0));
    bench.village.nodes.lock().unwrap().insert("n2".into(), (Arc::clone(&n2.puller), Vice::None));
    let (image, from) = n3.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), text);
    assert_eq!(from.peers.keys().collect::<Vec<_>>(), ["n2"]);
}

#[tokio::test]
async fn what_is_wrong_on_a_peers_disk_is_found_and_fetched_anew() {
    let bench = Bench::new().await;
    let (text, big) = large();
    bench.server.add(NAME, "v1", std::slice::from_ref(&big));
    let (n1, n2) = (bench.node("n1", true, Vice::None), bench.node("n2", true, Vice::None));
    n1.pull("v1").await.unwrap();
    let mut wrong = big.bytes.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    std::fs::write(n1.folder.path().join("blobs/sha256").join(&digest(&big.bytes)[7..]), wrong).unwrap();
    let (image, from) = n2.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), text);
    assert_eq!((from.peers["n1"].blobs, from.registries[bench.server.host()].blobs), (3, 1));
    assert_eq!(bench.failures(), [Failure::Corrupt]);
}

#[tokio::test]
async fn a_peer_that_dies_in_the_middle_costs_nothing_that_it_gave() {
    let bench = Bench::new().await;
    let (text, big) = large();
    bench.server.add(NAME, "v1", &[big]);
    let n1 = bench.node("n1", true, Vice::DiesAfter(usize::MAX));
    n1.pull("v1").await.unwrap();
    let dies = || {
        bench.village.nodes.lock().unwrap().insert("n1".into(), (Arc::clone(&n1.puller), Vice::DiesAfter(5)))
    };
    // Two parts are small blobs.
    dies();
    let n2 = bench.node("n2", true, Vice::None);
    let (image, from) = n2.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), text);
    assert_eq!(bench.server.ranges(), [3 * u64::from(PART_BYTES)]);
    assert!(from.peers["n1"].bytes > 3 * u64::from(PART_BYTES) && from.peers["n1"].blobs == 2, "{from}");
    assert_eq!(n2.downloads(), 0);

    // Another peer goes on with it too.
    dies();
    let n3 = bench.node("n3", false, Vice::None);
    let (image, from) = n3.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), text);
    assert!(from.peers.contains_key("n2") && from.registries.is_empty(), "{from}");
}

#[tokio::test]
async fn a_silent_registry_is_spoken_for_only_to_those_that_it_would_serve() {
    let bench = Bench::new().await;
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "one"))]);
    bench.server.close("me", "secret", false);
    let (n1, n2) = (bench.node("n1", true, Vice::None), bench.node("n2", false, Vice::None));
    let (right, anybody) = (bench.login(), Credentials::default());
    let silent = Credentials::password("127.0.0.1:1", "me", "secret");
    // Nobody knows it yet.
    assert_eq!(
        n2.pull_as("v1", PullPolicy::IfNotPresent, &silent).await.unwrap_err().reason(),
        "ErrImagePull"
    );
    n1.pull_as("v1", PullPolicy::IfNotPresent, &right).await.unwrap();
    // Without credentials, with others, and where the registry can be asked.
    let wrong = Credentials::password("127.0.0.1:1", "me", "wrong");
    for who in [&anybody, &wrong] {
        assert!(n2.pull_as("v1", PullPolicy::IfNotPresent, who).await.is_err());
    }
    let n3 = bench.node("n3", true, Vice::None);
    assert!(n3.pull_as("v1", PullPolicy::IfNotPresent, &anybody).await.is_err());
    let (image, from) = n2.pull_as("v1", PullPolicy::IfNotPresent, &silent).await.unwrap();
    assert_eq!((file(&image, "a"), from.word_of.as_deref()), ("one".into(), Some("n1")));
    // What it has by a peer's word, it knows as that: another that shows the same gets it from it.
    bench.village.nodes.lock().unwrap().remove("n1");
    let n4 = bench.node("n4", false, Vice::None);
    assert!(n4.pull_as("v1", PullPolicy::Always, &anybody).await.is_err());
    let (_, from) = n4.pull_as("v1", PullPolicy::Always, &silent).await.unwrap();
    assert_eq!(from.word_of.as_deref(), Some("n2"));
}

#[tokio::test]
async fn a_tag_that_moved_is_asked_of_the_registry_and_else_the_newest_word_counts() {
    let bench = Bench::new().await;
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "old"))]);
    let (n1, n2) = (bench.node("n1", true, Vice::None), bench.node("n2", true, Vice::None));
    n1.pull("v1").await.unwrap();
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "new"))]);
    let (image, _) = n2.pull("v1").await.unwrap();
    assert_eq!(file(&image, "a"), "new");
    let always = n1.pull_as("v1", PullPolicy::Always, &Credentials::default()).await.unwrap();
    assert_eq!((file(&always.0, "a"), always.1.peers["n2"].blobs), ("new".into(), 3));
    let said = |at: i64, digest: &str| {
        let meaning = Meaning { digest: digest.into(), at, fingerprint: String::new() };
        (digest.to_owned(), meaning)
    };
    let all = [said(1, "a"), said(3, "b"), said(2, "c")];
    assert_eq!(crate::image::registry::neighbours::newest(&all), Some(&all[1]));
}

#[tokio::test]
async fn of_many_that_want_one_image_at_once_one_asks_the_registry() {
    let bench = Bench::new().await;
    let (_, big) = large();
    let layers: Vec<_> = (0..6).map(|n| gzip(&layer("a", &n.to_string()))).chain([big]).collect();
    bench.server.add(NAME, "v1", &layers);
    let nodes: Vec<_> = (0..6).map(|n| bench.node(&format!("n{n}"), true, Vice::None)).collect();
    let pulls = futures::future::join_all(nodes.iter().map(|node| node.pull("v1"))).await;
    let told: Vec<_> = pulls.into_iter().map(|pull| pull.unwrap().1.to_string()).collect();
    // A manifest, a configuration and the layers, each once.
    assert_eq!(bench.gifts(), 9, "{told:#?}");
    assert!(nodes.iter().all(|node| node.blobs().len() == 9 && node.downloads() == 0));
}

#[tokio::test]
async fn blobs_that_belong_to_no_image_go_at_the_next_start_and_all_when_none_are_to_be_kept() {
    let bench = Bench::new().await;
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "one"))]);
    let n1 = bench.node("n1", true, Vice::None);
    n1.pull("v1").await.unwrap();
    let folder = n1.folder.path().join("blobs/sha256");
    std::fs::write(folder.join("ab".repeat(32)), b"left by a crash").unwrap();
    let open = |keep| ImageStore::open(n1.folder.path()).unwrap().keeping_blobs(keep).unwrap();
    drop(open(true));
    assert_eq!(n1.blobs().len(), 3);
    drop(open(false));
    assert!(!folder.exists());
}
