//! The load of `benches/store.py`: writes objects into the store, the agent's API or etcd, and
//! says how long that took, as one line of JSON.

mod api;
mod disk;
mod etcd;
mod link;
mod member;
mod object;
mod work;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use work::Work;

#[derive(Debug, Parser)]
#[command(about = "Drives the store, the agent's API and etcd for benches/store.py")]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Overwrites a place in a file and waits for the disk, as often as asked.
    Disk {
        path: PathBuf,
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        #[arg(long, default_value_t = 2000)]
        count: usize,
    },
    /// Puts keys into etcd over gRPC.
    Etcd {
        /// As `http://127.0.0.1:2379`.
        endpoint: String,
        /// Connections that the clients share.
        #[arg(long, default_value_t = 10)]
        connections: usize,
        #[command(subcommand)]
        work: Work,
    },
    /// Replaces ConfigMaps at an agent's socket, each client over a connection of its own.
    Api {
        socket: PathBuf,
        #[command(subcommand)]
        work: Work,
    },
    /// A member of a cluster of bare stores; does what lines at its input say.
    Member(member::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let answer = match Cli::parse().subject {
        Subject::Disk { path, bytes, count } => disk::measure(&path, bytes, count)?,
        Subject::Etcd { endpoint, connections, work } => {
            work.run(&etcd::Etcd::new(&endpoint, connections)?).await?
        }
        Subject::Api { socket, work } => work.run(&api::Api { socket }).await?,
        Subject::Member(options) => return member::run(options).await,
    };
    println!("{answer}");
    Ok(())
}
