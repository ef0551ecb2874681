//! Members that ask each other, over a transport that is a function call.

use super::*;
use reconciler::peer::CallError;
use runtime::image::ImageStore;
use runtime::image::registry::Registries;

/// Every member's giver, by name; who is away answers nothing.
#[derive(Debug, Default)]
struct Town {
    givers: Mutex<BTreeMap<String, Giver>>,
    calls: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Street {
    me: String,
    town: Arc<Town>,
}

impl Transport for Street {
    fn call(
        &self,
        peer: Peer,
        topic: Topic,
        body: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        assert_eq!(topic, Topic::Blob);
        self.town.calls.lock().expect("calls").push(peer.name.clone());
        let giver = self.town.givers.lock().expect("givers").get(&peer.name).cloned();
        let me = self.me.clone();
        async move {
            let away = || CallError::Unreachable { peer: peer.name.clone(), source: "away".into() };
            let giver = giver.ok_or_else(away)?;
            giver.answer(&me, body).await.map_err(|reason| CallError::Refused { peer: peer.name, reason })
        }
        .boxed()
    }
}

/// A town of `count` members, none of which has anything.
fn town(count: usize) -> (Arc<Town>, Vec<Sharing>, tempfile::TempDir) {
    let (town, folder) = (Arc::new(Town::default()), tempfile::tempdir().expect("a folder"));
    let names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
    let peer = |name: &String| Peer { name: name.clone(), ..Peer::default() };
    let members = watch::Sender::new(names.iter().map(peer).collect());
    // All have the same empty store: none gives anything here.
    let store = Arc::new(ImageStore::open(folder.path()).expect("a store"));
    let puller = Arc::new(Puller::new(store, Registries::default(), 1));
    let sharings = names.into_iter().map(|me| {
        let transport = Arc::new(Street { me: me.clone(), town: Arc::clone(&town) });
        let sharing = Sharing { me, transport, members: members.subscribe(), ledger: Arc::default() };
        let giver = Giver::new(sharing.clone(), Arc::clone(&puller));
        town.givers.lock().expect("givers").insert(sharing.me.clone(), giver);
        sharing
    });
    let sharings = sharings.collect();
    (town, sharings, folder)
}

fn image() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

#[tokio::test]
async fn of_a_hundred_that_seek_an_image_one_is_the_first_and_few_are_asked() {
    let (town, members, _folder) = town(100);
    let sought = join_all(members.iter().map(|member| member.seek(image(), true))).await;
    let first: Vec<_> = sought.iter().filter(|sought| sought.first).collect();
    assert_eq!((first.len(), first[0].peers.len()), (1, 0));
    assert!(sought.iter().filter(|sought| !sought.first).all(|sought| !sought.peers.is_empty()));
    let calls = town.calls.lock().expect("calls").len();
    assert!(calls <= 100 * ASKED, "{calls}");
    // Once one has it, all hear of it.
    members[7].announce(image()).await;
    let sought = members[8].seek(image(), true).await;
    assert!(!sought.first && sought.peers[0] == "n7", "{sought:?}");
}

#[tokio::test]
async fn without_its_keepers_an_image_is_still_sought_and_nobody_is_named_who_left() {
    let (town, members, _folder) = town(5);
    let names: Vec<_> = members.iter().map(|member| member.me.clone()).collect();
    let keepers = keepers::of(&image(), &names);
    let (a, b) = {
        let mut rest = members.iter().filter(|member| !keepers.contains(&member.me));
        (rest.next().expect("one"), rest.next().expect("another"))
    };
    a.announce(image()).await;
    assert_eq!(b.seek(image(), true).await.peers, std::slice::from_ref(&a.me));
    // The keepers' places are taken by others; before they know it, they are only away.
    for keeper in &keepers {
        town.givers.lock().expect("givers").remove(keeper);
    }
    assert_eq!(b.seek(image(), true).await, Sought { first: true, peers: Vec::new() });
}

#[tokio::test]
async fn garbage_and_members_that_do_not_share_are_refused_in_words() {
    let (_town, members, folder) = town(2);
    let store = Arc::new(ImageStore::open(folder.path().join("own")).expect("a store"));
    let giver = Giver::new(members[0].clone(), Arc::new(Puller::new(store, Registries::default(), 1)));
    let refused = giver.answer("n1", Bytes::from_static(b"\xff")).await.expect_err("refused");
    assert!(refused.starts_with("this is no message of images"), "{refused}");
    let wanted =
        PartWanted { digest: "sha256:../../etc/shadow".into(), offset: 0, most: 1, whole_only: false };
    assert_eq!(members[0].read("n1".into(), wanted).await.expect("an answer"), Part::Nothing);
    let gone =
        members[0].read("n9".into(), PartWanted { digest: image(), offset: 0, most: 1, whole_only: false });
    assert_eq!(gone.await.expect_err("nobody").to_string(), "n9 is no member any more");
}
