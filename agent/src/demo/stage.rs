//! Where the demo plays: a folder, a bridge, a network and a cgroup of its own,
//! all named so that no other agent on the machine is met.

use super::DemoError;
use netstack::NetworkOptions;
use serde_json::json;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Everything that the demo makes on the machine derives from this.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Holds the repository, the configuration and the agent's state.
    pub(super) folder: PathBuf,
    /// From the root of each hierarchy.
    pub(super) cgroup: String,
    /// The bridge's name.
    pub(super) bridge: String,
    /// The pods' network.
    pub(super) pod_cidr: String,
}

impl Stage {
    /// A folder that is new, and names that are free.
    ///
    /// # Errors
    /// If the folder cannot be made, or no name or network is free.
    pub(super) fn set() -> Result<Self, DemoError> {
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("keel-demo-{pid}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| DemoError::Folder { path: folder.clone(), source })?;
        let stage = Self {
            folder,
            cgroup: format!("keel-demo-{pid}"),
            bridge: free_bridge()?,
            pod_cidr: free_network()?,
        };
        for folder in [stage.log_folder(), stage.run_folder(), stage.state_folder()] {
            std::fs::create_dir(&folder).map_err(|source| DemoError::Folder { path: folder, source })?;
        }
        Ok(stage)
    }

    /// The bare repository that the agent follows.
    pub(super) fn repository(&self) -> PathBuf {
        self.folder.join("repository.git")
    }

    /// The clone that the story edits.
    pub(super) fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// The agent's configuration.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("keel.yaml")
    }

    /// What the agent says.
    pub(super) fn agent_log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// The agent's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.run_folder().join("keel.sock")
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.join("logs")
    }

    fn state_folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Writes the agent's configuration.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write_configuration(&self) -> Result<(), DemoError> {
        // JSON is YAML, and needs no thought about quoting.
        let configuration = json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "AgentConfiguration",
            "nodeName": "demo",
            "stateDir": self.state_folder(),
            "runDir": self.run_folder(),
            "logDir": self.log_folder(),
            "cgroupRoot": self.cgroup,
            "metricsAddress": "",
            "network": {"bridge": self.bridge, "podCIDR": self.pod_cidr, "serviceCIDR": "", "dns": {"enabled": false}, "cni": {"mode": "never"}},
            // The story is the same on a machine that is short of something.
            "node": {"evictionHard": {}},
            "sources": [{
                "name": super::SOURCE,
                "url": format!("file://{}", self.repository().display()),
                "branch": super::BRANCH,
                "interval": "10s",
                // The last act empties the repository.
                "allowEmpty": true,
            }],
        });
        let path = self.configuration();
        std::fs::write(&path, format!("{configuration:#}\n"))
            .map_err(|source| DemoError::Folder { path, source })
    }

    /// The demo's network, as the agent has it.
    ///
    /// # Errors
    /// Never for a stage that was set.
    pub(super) fn network(&self) -> Result<NetworkOptions, netstack::CidrError> {
        let pod_cidrs = self.pod_cidr.parse()?;
        Ok(NetworkOptions {
            bridge: self.bridge.clone(),
            pod_cidrs,
            formers: Vec::new(),
            mtu: 0,
            fast_path: true,
        })
    }
}

fn free_bridge() -> Result<String, DemoError> {
    let names = (0..1000).map(|number| format!("keeldemo{number}"));
    let free = |name: &String| !Path::new("/sys/class/net").join(name).exists();
    names.into_iter().find(free).ok_or(DemoError::NothingFree("bridge name"))
}

/// The first of some rarely used networks that no route of the machine leads into.
fn free_network() -> Result<String, DemoError> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes: Vec<_> = table.lines().skip(1).filter_map(route).collect();
    let free = |network: &Ipv4Addr| {
        let wanted = u32::from(*network);
        let mask: u32 = u32::MAX << (32 - PREFIX);
        // A default route leads everywhere, and is nobody's.
        routes.iter().all(|(to, its)| *its == 0 || (to ^ wanted) & (its & mask) != 0)
    };
    let networks = (200..=250).rev().map(|second| Ipv4Addr::new(10, second, 77, 0));
    let found = networks.into_iter().find(free).ok_or(DemoError::NothingFree("network"))?;
    Ok(format!("{found}/{PREFIX}"))
}

/// Of the demo's network.
const PREFIX: u32 = 24;

/// Destination and mask of a line of `/proc/net/route`, which writes numbers as
/// they lie in memory.
fn route(line: &str) -> Option<(u32, u32)> {
    let mut words = line.split_whitespace();
    let destination = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    let mask = u32::from_str_radix(words.nth(5)?, 16).ok()?;
    Some((u32::from_be(destination), u32::from_be(mask)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let line = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let wanted = (u32::from(Ipv4Addr::new(192, 168, 1, 0)), u32::from(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(route(line), Some(wanted));
    }
}
