#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peers;
mod server;

use super::*;
use crate::plan::Rootfs;
use server::{Blob, Server, digest, gzip, layer, zstd};

const NAME: &str = "team/app";

struct Bench {
    _folder: tempfile::TempDir,
    server: Server,
    puller: Puller,
}

impl Bench {
    async fn new(configure: impl FnOnce(&str) -> Registries) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start().await;
        let store = Arc::new(ImageStore::open(folder.path()).unwrap());
        let puller = Puller::new(store, configure(server.host()), 2);
        Self { _folder: folder, server, puller }
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}/{NAME}:{tag}", self.server.host())
    }

    async fn pull(&self, tag: &str) -> Result<(Image, Option<Provenance>), ImageError> {
        self.puller.pull(&self.reference(tag), PullPolicy::IfNotPresent, &Credentials::default()).await
    }
}

async fn bench() -> Bench {
    Bench::new(|_| Registries::default()).await
}

fn file(image: &Image, name: &str) -> String {
    let Rootfs::Layers(layers) = &image.rootfs else { panic!("no layers") };
    let found = layers.iter().find_map(|layer| std::fs::read_to_string(layer.join(name)).ok());
    found.unwrap_or_default()
}

#[tokio::test]
async fn an_image_comes_with_all_its_layers_and_only_once() {
    let bench = bench().await;
    let layers = [gzip(&layer("a", "one")), zstd(&layer("b", "two")), Blob::plain(layer("c", "three"))];
    bench.server.add(NAME, "v1", &layers);
    let (image, asked) = bench.pull("v1").await.unwrap();
    assert!(asked.is_some());
    assert_eq!(
        [file(&image, "a"), file(&image, "b"), file(&image, "c")].map(|text| text.clone()),
        ["one", "two", "three"].map(str::to_owned)
    );
    let requests = bench.server.requests();
    assert_eq!(bench.pull("v1").await.unwrap(), (image.clone(), None));
    assert_eq!(bench.server.requests(), requests);
    // Always asks, but fetches nothing that is there.
    let again = bench.puller.pull(&bench.reference("v1"), PullPolicy::Always, &Credentials::default()).await;
    assert_eq!(again.unwrap().0, image);
    assert!(
        !bench.server.requests()[requests.len()..]
            .iter()
            .any(|path| path.contains("sha256:") && path.contains("/blobs/") && !path.contains(&image.id))
    );
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_this_machine() {
    let bench = bench().await;
    bench.server.add_index(NAME, "multi", &[gzip(&layer("arch", "here"))]);
    let (image, _) = bench.pull("multi").await.unwrap();
    assert_eq!(file(&image, "arch"), "here");
    let pinned = format!("{}/{NAME}@{}", bench.server.host(), image.digest);
    let (same, _) =
        bench.puller.pull(&pinned, PullPolicy::IfNotPresent, &Credentials::default()).await.unwrap();
    assert_eq!(same.id, image.id);
}

#[tokio::test]
async fn a_broken_connection_is_gone_on_with() {
    let bench = bench().await;
    let noise: String =
        (0..400_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 28) as u8)).collect();
    let blob = Blob::plain(layer("big", &noise));
    bench.server.add(NAME, "v1", std::slice::from_ref(&blob));
    bench.server.cut_after(100_000);
    let (image, _) = bench.pull("v1").await.unwrap();
    assert_eq!(file(&image, "big"), noise);
    let ranges = bench.server.ranges();
    assert!(ranges.len() >= 3, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0] < pair[1]), "{ranges:?}");
}

#[tokio::test]
async fn a_download_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let blob = Blob::plain(layer("big", &"x".repeat(300_000)));
    server.add(NAME, "v1", std::slice::from_ref(&blob));
    let reference = format!("{}/{NAME}:v1", server.host());
    let part =
        folder.path().join("downloads/blobs/sha256").join(format!("{}.part", &digest(&blob.bytes)[7..]));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, &blob.bytes[..200_000]).unwrap();
    let store = Arc::new(ImageStore::open(folder.path()).unwrap());
    let puller = Puller::new(store, Registries::default(), 1);
    let (image, _) =
        puller.pull(&reference, PullPolicy::IfNotPresent, &Credentials::default()).await.unwrap();
    assert_eq!(file(&image, "big").len(), 300_000);
    assert_eq!(server.ranges(), [200_000]);
    assert_eq!(std::fs::read_dir(part.parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let bench = bench().await;
    let blob = gzip(&layer("a", "one"));
    bench.server.add(NAME, "v1", std::slice::from_ref(&blob));
    bench.server.replace(&digest(&blob.bytes), gzip(&layer("a", "evil")).bytes);
    let refused = bench.pull("v1").await.unwrap_err();
    assert_eq!(refused.reason(), "ErrImagePull");
    // Put right, it is fetched anew: nothing of the bad one was kept.
    bench.server.replace(&digest(&blob.bytes), blob.bytes.clone());
    assert_eq!(file(&bench.pull("v1").await.unwrap().0, "a"), "one");
}

#[tokio::test]
async fn tokens_and_passwords_open_what_is_closed() {
    for token in [false, true] {
        let bench = bench().await;
        bench.server.add(NAME, "v1", &[gzip(&layer("a", "one"))]);
        bench.server.close("me", "secret", token);
        let anonymous = bench.pull("v1").await.unwrap_err();
        assert!(!format!("{anonymous:?}").contains("secret"));
        let wrong = Credentials::password(bench.server.host(), "me", "wrong");
        assert!(bench.puller.pull(&bench.reference("v1"), PullPolicy::IfNotPresent, &wrong).await.is_err());
        let right = Credentials::password(bench.server.host(), "me", "secret");
        let pulled = bench.puller.pull(&bench.reference("v1"), PullPolicy::IfNotPresent, &right).await;
        assert_eq!(file(&pulled.unwrap().0, "a"), "one", "token: {token}");
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_hide_nothing() {
    let mirror = |host: &str, name: &str| {
        let origin = Endpoint { host: host.to_owned(), ..Endpoint::usual(host) };
        // Nobody listens on the first one.
        let mirrors = vec![Endpoint::usual("127.0.0.1:1"), Endpoint::usual(host)];
        RegistryHost { name: name.to_owned(), mirrors, origin }
    };
    let bench = Bench::new(|host| Registries {
        hosts: vec![mirror(host, "far.example.com")],
        credentials_file: None,
    })
    .await;
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "one"))]);
    let far = format!("far.example.com/{NAME}:v1");
    let (image, _) =
        bench.puller.pull(&far, PullPolicy::IfNotPresent, &Credentials::default()).await.unwrap();
    assert_eq!(file(&image, "a"), "one");
    let listed = bench.puller.store().list().unwrap();
    assert_eq!(listed[0].references, [far]);
    assert_eq!(listed[0].digests, [format!("far.example.com/{NAME}@{}", image.digest)]);
}

#[tokio::test]
async fn what_nobody_needs_goes_and_what_a_pod_has_stays() {
    let bench = bench().await;
    let shared = gzip(&layer("shared", "base"));
    bench.server.add(NAME, "v1", &[shared.clone(), gzip(&layer("a", "one"))]);
    bench.server.add(NAME, "v2", &[shared, gzip(&layer("b", "two"))]);
    let (v1, _) = bench.pull("v1").await.unwrap();
    let (v2, _) = bench.pull("v2").await.unwrap();
    let store = bench.puller.store();
    let in_use = std::collections::BTreeSet::from([v2.id.clone()]);
    let refused = store.remove(&bench.reference("v2"), &in_use).unwrap_err();
    assert!(matches!(refused, ImageError::InUse { .. }));
    let removed = store.prune(&in_use, std::time::Duration::ZERO, || false).unwrap();
    assert_eq!((removed.references, removed.layers), (vec![bench.reference("v1")], 1));
    assert_eq!((file(&v2, "b"), file(&v2, "shared")), ("two".into(), "base".into()));
    assert_eq!(file(&v1, "a"), "");
    let gone = store.remove(&v2.id[7..19], &std::collections::BTreeSet::new()).unwrap();
    assert_eq!(gone.layers, 2);
    // Out of the store at once, whenever their files go.
    assert_eq!((file(&v2, "b"), file(&v2, "shared")), (String::new(), String::new()));
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.find_at_hand(&v2.id), Some(None));
    bench.pull("v2").await.unwrap();
    assert_eq!(store.find(&v2.id).unwrap().unwrap().references, [bench.reference("v2")]);
}

#[tokio::test]
async fn many_who_want_one_image_fetch_it_once() {
    let bench = bench().await;
    bench.server.add(NAME, "v1", &[gzip(&layer("a", "one"))]);
    let pulls = (0..8).map(|_| bench.pull("v1"));
    let pulled = futures::future::join_all(pulls).await;
    assert!(pulled.iter().all(|one| one.is_ok()));
    assert_eq!(pulled.iter().filter(|one| one.as_ref().unwrap().1.is_some()).count(), 1);
}

#[tokio::test]
async fn never_and_missing_have_their_own_reasons() {
    let bench = bench().await;
    let never = bench.puller.pull(&bench.reference("v1"), PullPolicy::Never, &Credentials::default()).await;
    assert_eq!(never.unwrap_err().reason(), "ErrImageNeverPull");
    let missing = bench.pull("v1").await.unwrap_err();
    assert_eq!(missing.reason(), "ErrImagePull");
    let invalid =
        bench.puller.pull("docker.io/Upper", PullPolicy::Always, &Credentials::default()).await.unwrap_err();
    assert_eq!(invalid.reason(), "InvalidImageName");
}

#[tokio::test]
async fn a_layer_of_two_images_that_are_pulled_at_once_is_fetched_once() {
    let bench = bench().await;
    let shared = Blob::plain(layer("shared", &"x".repeat(2_000_000)));
    bench.server.add(NAME, "v1", &[shared.clone(), gzip(&layer("a", "one"))]);
    bench.server.add(NAME, "v2", &[gzip(&layer("b", "two")), shared.clone()]);
    let (v1, v2) = tokio::join!(bench.pull("v1"), bench.pull("v2"));
    assert_eq!((file(&v1.unwrap().0, "a"), file(&v2.unwrap().0, "b")), ("one".into(), "two".into()));
    let wanted = format!("/v2/{NAME}/blobs/{}", digest(&shared.bytes));
    assert_eq!(bench.server.requests().iter().filter(|path| **path == wanted).count(), 1);
}
