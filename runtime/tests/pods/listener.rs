//! Servers of the test's own in a pod's network: what they are asked is what the kernel carried there.

use crate::node::Node;
use nix::sched::{CloneFlags, setns};
use runtime::plan::PodPlan;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that was made in the pod.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The address that was asked.
    pub(crate) to: SocketAddr,
    /// The head of a request, if there was one.
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// What comes in at one port.
pub(crate) struct Server(mpsc::UnboundedReceiver<Asked>);

impl Server {
    /// At `port` of every address of the pod, which was created; answers each request with `status`.
    pub(crate) fn at(node: &Node, uid: &str, port: u16, status: &'static str) -> Self {
        let supervisor = node.runtime().observe()[uid].supervisor_pid;
        // Nothing leads back out of a network namespace: in a thread that ends.
        let bound = std::thread::spawn(move || {
            let network = File::open(format!("/proc/{supervisor}/ns/net")).unwrap();
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind(("0.0.0.0", port)).unwrap()
        });
        let listener = bound.join().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (asked, inbox) = mpsc::unbounded_channel();
        // Ends with the test's own executor.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let at = Instant::now();
                let to = stream.local_addr().unwrap();
                let asked = asked.clone();
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    let mut part = [0; 1024];
                    while !text.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut part).await {
                            Ok(count) if count > 0 => text.extend_from_slice(&part[..count]),
                            Ok(_) | Err(_) => break,
                        }
                    }
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    // Who only wanted a connection is gone.
                    let _gone = stream.write_all(answer.as_bytes()).await;
                    let _over = asked.send(Asked { to, text: String::from_utf8(text).unwrap(), at });
                });
            }
        });
        Self(inbox)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("nobody asks").unwrap()
    }

    /// How many wait to be looked at.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The pod has its namespaces and nothing runs in it yet.
pub(crate) async fn create(node: &Node, plan: &PodPlan) {
    node.runtime().create(plan).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// It begins.
pub(crate) async fn start(node: &Node, uid: &str) {
    node.runtime().start(uid, vec![crate::node::ADDRESS.into()]).await.unwrap();
}
