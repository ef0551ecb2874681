//! A bare store, alone or with others, that is written to from within its own process, as the
//! controllers and the Git sources do.

use crate::link::{Links, answer};
use crate::object::Sample;
use crate::work::{Client, Target, Work};
use anyhow::{Result, anyhow};
use clap::{Args, Parser};
use manifests::{Kind, ObjectKey};
use reconciler::peer::Peer;
use reconciler::store::{Beginning, Leadership, Store, StoreOptions, Write};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where its files are.
    dir: PathBuf,
    #[arg(long, default_value = "alone")]
    name: String,
    /// Where it answers peers; without it, it has none.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Where peers are to find it later; its socket otherwise.
    #[arg(long, conflicts_with = "socket")]
    address: Option<String>,
    /// The cluster that has admitted it.
    #[arg(long, requires = "node")]
    cluster: Option<String>,
    #[arg(long)]
    node: Option<u64>,
}

/// A line at a member's input.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
enum Order {
    #[command(flatten)]
    Work(Work),
    /// Adds a member.
    Admit { name: String, socket: String },
    /// Says who leads, and what is there.
    State,
}

/// Runs until its input ends.
pub(crate) async fn run(options: Options) -> Result<()> {
    let opened = tokio::task::spawn_blocking(|| open(options));
    let store = Arc::new(opened.await??);
    println!("{}", state(&store));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let answer = match Order::try_parse_from(line.split_whitespace())? {
            Order::State => state(&store),
            Order::Admit { name, socket } => {
                let node = store.cluster().add(Peer { name, address: socket, zone: String::new() }).await?;
                json!({"cluster": store.cluster().id(), "node": node})
            }
            Order::Work(work) => work.run(&Bare(Arc::clone(&store))).await?,
        };
        println!("{answer}");
    }
    Ok(())
}

/// The lines of the input, to its end.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lines().map_while(std::result::Result::ok);
        input.try_for_each(|line| sender.blocking_send(line))
    });
    lines
}

fn open(options: Options) -> Result<Store> {
    let Options { dir, name, socket, address, cluster, node } = options;
    let beginning = match (cluster, node) {
        (Some(cluster), Some(node)) => Beginning::Join { cluster, node },
        _ => Beginning::Found,
    };
    let mut all = StoreOptions::alone(&dir);
    all.beginning = beginning;
    let own = socket.as_ref().map(|socket| socket.display().to_string());
    if let Some(address) = own.or(address) {
        all.me = Peer { name, address, zone: String::new() };
    }
    if socket.is_some() {
        all.transport = Some(Links::new(Handle::current()));
    }
    let store = Store::open_with(all)?;
    if let Some(socket) = socket {
        answer(&socket, store.cluster().clone())?;
    }
    Ok(store)
}

fn state(store: &Store) -> Value {
    let cluster = store.cluster();
    let voters = cluster.members().iter().filter(|member| member.is_voter).count();
    let leader = match cluster.leadership() {
        Leadership::Leads => Some(cluster.node()),
        Leadership::Follows(node) => Some(node),
        Leadership::Nobody => None,
    };
    json!({
        "node": cluster.node(),
        "leader": leader,
        "voters": voters,
        "objects": store.read(reconciler::store::State::len),
    })
}

struct Bare(Arc<Store>);

impl Target for Bare {
    type Client = Inside;

    async fn client(&self, _: usize) -> Result<Inside> {
        Ok(Inside(Arc::clone(&self.0)))
    }
}

struct Inside(Arc<Store>);

impl Client for Inside {
    async fn put(&mut self, name: String, sample: &Sample) -> Result<()> {
        let write = Write::Create(sample.object(&name).into());
        self.0.write(vec![write]).await.map(drop).map_err(|error| anyhow!("{error}"))
    }

    async fn has(&mut self, name: String) -> Result<bool> {
        Ok(self.0.get(&ObjectKey::new(Kind::ConfigMap, "default", name)).is_some())
    }
}
