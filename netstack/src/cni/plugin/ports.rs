//! Ports of the node that lead to containers, in files: each call has to know those of the others.

use super::{chain, network_failure};
use crate::cni::failure::{Failure, code};
use crate::names;
use crate::network::{HostPort, Network, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The folder of a bridge's containers.
#[derive(Debug)]
pub(super) struct Ports {
    folder: PathBuf,
    bridge: String,
}

/// The ports of one container.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: String,
    ports: Vec<Port>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    protocol: String,
    host_address: Option<IpAddr>,
    host_port: u16,
    pod_address: IpAddr,
    pod_port: u16,
}

impl Port {
    fn of(port: &HostPort) -> Self {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let HostPort { host_address, host_port, pod_address, pod_port, .. } = *port;
        Self { protocol: protocol.to_owned(), host_address, host_port, pod_address, pod_port }
    }

    fn read(self) -> HostPort {
        let protocol = match self.protocol.as_str() {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let Self { host_address, host_port, pod_address, pod_port, .. } = self;
        HostPort { protocol, host_address, host_port, pod_address, pod_port }
    }
}

fn failure(error: &io::Error) -> Failure {
    Failure::new(code::IO, format!("cannot keep the ports of containers: {}", chain(error)))
}

impl Ports {
    pub(super) fn of(folder: &Path, bridge: &str) -> Self {
        Self { folder: folder.join(bridge), bridge: bridge.to_owned() }
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.json", names::link_of(&self.bridge, key)))
    }

    fn all(&self) -> io::Result<BTreeMap<String, Vec<HostPort>>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries?,
        };
        let mut all = BTreeMap::new();
        for entry in entries {
            let kept: Kept = serde_json::from_slice(&fs::read(entry?.path())?)?;
            all.insert(kept.key, kept.ports.into_iter().map(Port::read).collect());
        }
        Ok(all)
    }

    /// The node's ports lead to those containers that files tell of.
    async fn publish(&self, network: &Network) -> Result<(), Failure> {
        let all = self.all().map_err(|error| failure(&error))?;
        network.publish_all(all).await.map_err(|error| network_failure(&error))
    }

    /// They lead to the container, too.
    pub(super) async fn add(&self, network: &Network, key: &str, ports: &[HostPort]) -> Result<(), Failure> {
        if ports.is_empty() {
            return Ok(());
        }
        let kept = Kept { key: key.to_owned(), ports: ports.iter().map(Port::of).collect() };
        let write = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(self.file(key), serde_json::to_vec(&kept)?)
        };
        write().map_err(|error: io::Error| failure(&error))?;
        self.publish(network).await
    }

    /// None leads to the container.
    pub(super) async fn remove(&self, network: &Network, key: &str) -> Result<(), Failure> {
        match fs::remove_file(self.file(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failure(&error)),
            Ok(()) => {
                // The last one takes the folder along.
                let _ = fs::remove_dir(&self.folder);
                self.publish(network).await
            }
        }
    }

    /// They lead to no containers but those.
    pub(super) async fn keep(&self, network: &Network, live: &BTreeSet<String>) -> Result<(), Failure> {
        let all = self.all().map_err(|error| failure(&error))?;
        for key in all.keys().filter(|key| !live.contains(*key)) {
            self.remove(network, key).await?;
        }
        Ok(())
    }
}
