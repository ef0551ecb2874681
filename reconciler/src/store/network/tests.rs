//! What goes over the way to a peer, and what is waited for.

use super::*;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use openraft::{CommittedLeaderId, EntryPayload};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

/// A peer that takes everything, and answers while it is told to.
#[derive(Debug, Default)]
struct Listener {
    heard: Mutex<Vec<AppendQuestion>>,
    is_silent: AtomicBool,
}

impl Transport for Listener {
    fn call(
        &self,
        _: Peer,
        _: Topic,
        body: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        self.heard.lock().unwrap().push(AppendQuestion::decode(body).unwrap());
        if self.is_silent.load(Ordering::SeqCst) {
            return futures::future::pending().boxed();
        }
        let answer = AppendAnswer::from(AppendEntriesResponse::Success).encode_to_vec();
        futures::future::ready(Ok(answer.into())).boxed()
    }
}

impl Listener {
    /// How far each message without entries said that the log is committed.
    fn news(&self) -> Vec<Option<LogId>> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|m| m.entries.is_empty()).map(|m| m.committed.map(Into::into)).collect()
    }
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

/// The entry at `index`, if given, and the news that the log is committed through `committed`.
fn request(index: Option<u64>, committed: u64) -> AppendEntriesRequest<Config> {
    let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: None,
        entries: index.into_iter().map(entry).collect(),
        leader_commit: Some(id(committed)),
    }
}

/// What the peer answers, if it does within a second.
async fn answer(way: &mut Way, request: AppendEntriesRequest<Config>) -> Option<()> {
    let option = RPCOption::new(Duration::from_secs(10));
    let answered = timeout(Duration::from_secs(1), way.append_entries(request, option)).await.ok()?;
    assert!(matches!(answered, Ok(AppendEntriesResponse::Success)));
    Some(())
}

/// A way on which the first entry went, and its other end.
async fn way() -> (Way, Arc<Listener>) {
    let listener = Arc::new(Listener::default());
    let transport: Arc<dyn Transport> = Arc::clone(&listener) as _;
    let mut way = Network { transport, cluster: "c".into() }.new_client(2, &Peer::default()).await;
    answer(&mut way, request(Some(1), 0)).await.unwrap();
    (way, listener)
}

#[tokio::test(start_paused = true)]
async fn news_of_a_commit_is_told_and_not_waited_for() {
    let (mut way, listener) = way().await;
    listener.is_silent.store(true, Ordering::SeqCst);
    answer(&mut way, request(None, 1)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(listener.news(), [Some(id(1))]);
}

#[tokio::test(start_paused = true)]
async fn among_many_entries_news_waits_for_the_next() {
    let (mut way, listener) = way().await;
    answer(&mut way, request(Some(2), 0)).await.unwrap();
    answer(&mut way, request(None, 2)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(listener.news(), []);
    tokio::time::sleep(NEWS_DELAY * 2).await;
    assert_eq!(listener.news(), [Some(id(2))]);
}

#[tokio::test(start_paused = true)]
async fn entries_take_the_news_along() {
    let (mut way, listener) = way().await;
    answer(&mut way, request(Some(2), 0)).await.unwrap();
    answer(&mut way, request(None, 1)).await.unwrap();
    answer(&mut way, request(Some(3), 1)).await.unwrap();
    tokio::time::sleep(NEWS_DELAY * 2).await;
    assert_eq!(listener.news(), []);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_new_asks_whether_the_peer_follows() {
    let (mut way, listener) = way().await;
    answer(&mut way, request(None, 1)).await.unwrap();
    listener.is_silent.store(true, Ordering::SeqCst);
    assert_eq!(answer(&mut way, request(None, 1)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_way_on_which_no_entries_went_waits_for_its_answer() {
    let listener = Arc::new(Listener::default());
    listener.is_silent.store(true, Ordering::SeqCst);
    let transport: Arc<dyn Transport> = Arc::clone(&listener) as _;
    let mut way = Network { transport, cluster: "c".into() }.new_client(2, &Peer::default()).await;
    assert_eq!(answer(&mut way, request(None, 1)).await, None);
}
