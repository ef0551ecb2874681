use super::*;
use tokio::io::DuplexStream;

/// The other side, frame by frame.
struct Peer {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Peer {
    async fn send(&mut self, frame: Frame) {
        let mut bytes = Vec::new();
        self.encoder.push(&frame, &mut bytes);
        self.io.write_all(&bytes).await.expect("sent");
    }

    async fn open(&mut self, stream: u32, kind: &str) {
        let headers = vec![("streamtype".to_owned(), kind.to_owned())];
        self.send(Frame::SynStream { stream, fin: false, headers }).await;
        assert_eq!(self.next().await, Some(Frame::SynReply { stream, fin: false, headers: Vec::new() }));
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().expect("frames") {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.io.read(&mut buffer).await.expect("read") {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }

    /// How many bytes came before nothing came for a while of the paused clock.
    async fn received(&mut self) -> usize {
        let mut all = 0;
        while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(1), self.next()).await {
            if let Frame::Data { bytes, .. } = frame {
                all += bytes.len();
            }
        }
        all
    }
}

fn pair() -> (Session, Peer) {
    let (ours, io) = tokio::io::duplex(4096);
    (Session::start(ours), Peer { io, encoder: Encoder::default(), decoder: Decoder::default() })
}

#[tokio::test]
async fn data_goes_both_ways_and_each_way_ends_alone() {
    let (mut session, mut peer) = pair();
    peer.open(1, "data").await;
    let Stream { mut reader, mut writer, headers } = session.accept().await.expect("a stream");
    assert_eq!(headers, [("streamtype".to_owned(), "data".to_owned())]);
    peer.send(Frame::Data { stream: 1, fin: false, bytes: b"in".to_vec() }).await;
    assert_eq!(reader.read().await.as_deref(), Some(&b"in"[..]));
    peer.send(Frame::Data { stream: 1, fin: true, bytes: Vec::new() }).await;
    assert_eq!(reader.read().await, None);
    writer.write(b"out").await.expect("open");
    writer.finish().await;
    let mut frames = Vec::new();
    while frames.len() < 4 {
        frames.extend(peer.next().await);
    }
    let expected = [
        Frame::WindowUpdate { stream: 1, delta: 2 },
        Frame::WindowUpdate { stream: 0, delta: 2 },
        Frame::Data { stream: 1, fin: false, bytes: b"out".to_vec() },
        Frame::Data { stream: 1, fin: true, bytes: Vec::new() },
    ];
    assert_eq!(frames, expected);
}

#[tokio::test(start_paused = true)]
async fn a_window_is_obeyed_once_there_is_one() {
    let (mut session, mut peer) = pair();
    peer.send(Frame::Settings(vec![(INITIAL_WINDOW_SIZE, 1000)])).await;
    peer.open(1, "data").await;
    let mut stream = session.accept().await.expect("a stream");
    let writing = tokio::spawn(async move { stream.writer.write(&[7; 5000]).await });
    assert_eq!(peer.received().await, 1000);
    peer.send(Frame::WindowUpdate { stream: 1, delta: 3000 }).await;
    assert_eq!(peer.received().await, 3000);
    peer.send(Frame::WindowUpdate { stream: 1, delta: 3000 }).await;
    assert_eq!(peer.received().await, 1000);
    assert_eq!(writing.await.expect("joined"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_keeps_no_window_gets_everything() {
    let (mut session, mut peer) = pair();
    peer.open(1, "data").await;
    let mut stream = session.accept().await.expect("a stream");
    let writing = tokio::spawn(async move { stream.writer.write(&vec![7; 1 << 20]).await });
    assert_eq!(peer.received().await, 1 << 20);
    assert_eq!(writing.await.expect("joined"), Ok(()));
}

#[tokio::test]
async fn a_cancelled_stream_is_closed_for_its_writer_and_reader() {
    let (mut session, mut peer) = pair();
    peer.send(Frame::Settings(vec![(INITIAL_WINDOW_SIZE, 0)])).await;
    peer.open(1, "data").await;
    let Stream { mut reader, mut writer, .. } = session.accept().await.expect("a stream");
    let writing = tokio::spawn(async move { writer.write(b"never").await });
    peer.send(Frame::RstStream { stream: 1, status: CANCEL }).await;
    assert_eq!(writing.await.expect("joined"), Err(Closed));
    assert_eq!(reader.read().await, None);
}

#[tokio::test]
async fn everything_ends_when_the_peer_is_gone() {
    let (mut session, mut peer) = pair();
    peer.open(1, "data").await;
    let Stream { mut reader, mut writer, .. } = session.accept().await.expect("a stream");
    drop(peer);
    assert_eq!(reader.read().await, None);
    while writer.write(&[0; 1000]).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn what_was_written_arrives_before_the_end() {
    let (mut session, mut peer) = pair();
    peer.open(1, "data").await;
    let mut stream = session.accept().await.expect("a stream");
    let closing = tokio::spawn(async move {
        stream.writer.write(&[1; 10_000]).await.expect("open");
        stream.writer.finish().await;
        drop(stream.reader);
        session.close().await;
    });
    let mut bytes = 0;
    let mut last = None;
    while let Some(frame) = peer.next().await {
        if let Frame::Data { bytes: some, .. } = &frame {
            bytes += some.len();
        }
        last = Some(frame);
    }
    assert_eq!((bytes, last), (10_000, Some(Frame::GoAway { last: 0, status: 0 })));
    drop(peer);
    closing.await.expect("closed");
}

#[tokio::test]
async fn pings_come_back() {
    let (_session, mut peer) = pair();
    peer.send(Frame::Ping(7)).await;
    assert_eq!(peer.next().await, Some(Frame::Ping(7)));
}
