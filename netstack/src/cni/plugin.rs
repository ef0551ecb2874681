//! This network as a plugin of somebody else's runtime: podman, containerd, CRI-O.
//!
//! One call, one process: the network is opened as an agent opens it, one container is joined or left,
//! and what the kernel has is the record. Only the ports of the node, which are one table for all
//! containers, are kept in files, below a folder that is emptied at boot as the kernel is.
//!
//! Must not be called for the bridge of a running agent, which is alone in knowing its pods.

mod ports;
mod settings;

pub use settings::{Settings, SettingsError};

use super::failure::{Failure, code};
use super::list::{is_interface, is_name};
use super::outcome::{Interface, Ip, Outcome};
use super::request::Command;
use super::version::SpecVersion;
use crate::network::{AttachError, Attachment, Namespace, Network, NetworkError, NetworkOptions};
use crate::overlay::hide_behind_node;
use ports::Ports;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// The variable by which a program knows that it is called as a plugin.
pub const VARIABLE: &str = "CNI_COMMAND";
/// Emptied at boot.
const FOLDER: &str = "/run/keel-cni";
/// More is no configuration, in bytes.
const MOST_INPUT: u64 = 1 << 20;
/// Opened for what is no container's, to see that it can be.
const NOBODY: &str = "";

/// Does what the environment and standard input ask for, and says so on standard output.
#[must_use]
pub fn main() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(MOST_INPUT).read_to_end(&mut text);
    let read = read.map_err(|error| Failure::new(code::IO, format!("cannot read standard input: {error}")));
    // A failure before the version is known is told in the words of the newest.
    let version = Settings::version(&text).unwrap_or(SpecVersion::V1_1_0);
    let answered = read.and_then(|_| answer(&text));
    let (said, code) = match answered {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.print(version)), ExitCode::FAILURE),
    };
    if let Some(said) = said {
        // Whoever does not listen does not want to know.
        let _ = writeln!(io::stdout(), "{said}");
    }
    code
}

/// What is asked for: of a container, or of none.
#[derive(Debug)]
struct Asked {
    container: String,
    netns: String,
    interface: String,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn answer(text: &[u8]) -> Result<Option<Value>, Failure> {
    let word = variable(VARIABLE);
    let Some(command) = Command::parse(&word) else {
        let message = format!("{VARIABLE} is {word:?}: ADD, DEL, CHECK, GC, STATUS and VERSION are known");
        return Err(Failure::new(code::INVALID_ENVIRONMENT, message));
    };
    if command == Command::Version {
        let version = Settings::version(text).unwrap_or(SpecVersion::V1_1_0);
        let all: Vec<_> = SpecVersion::ALL.map(SpecVersion::name).into();
        return Ok(Some(json!({"cniVersion": version.name(), "supportedVersions": all})));
    }
    let settings = Settings::parse(text)?;
    let asked = Asked::read(command)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(code::IO, format!("cannot start: {error}")))?;
    runtime.block_on(act(command, &settings, &asked))
}

impl Asked {
    fn read(command: Command) -> Result<Self, Failure> {
        let asked = Self {
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            interface: variable("CNI_IFNAME"),
        };
        let needed = match command {
            Command::Add | Command::Check => [true, true],
            Command::Del => [true, false],
            Command::Gc | Command::Status | Command::Version => [false, false],
        };
        let wrong = [
            ("CNI_CONTAINERID", needed[0] && !is_name(&asked.container)),
            ("CNI_IFNAME", needed[0] && !is_interface(&asked.interface)),
            ("CNI_NETNS", needed[1] && asked.netns.is_empty()),
        ];
        let wrong: Vec<_> = wrong.into_iter().filter_map(|(name, wrong)| wrong.then_some(name)).collect();
        if wrong.is_empty() {
            return Ok(asked);
        }
        let message = format!("missing or not as they must be: {}", wrong.join(", "));
        Err(Failure::new(code::INVALID_ENVIRONMENT, message))
    }

    fn key(&self) -> String {
        key(&self.container, &self.interface)
    }

    fn namespace(&self) -> Namespace {
        Namespace::File(self.netns.clone().into())
    }
}

/// What tells attachments of a bridge from one another.
fn key(container: &str, interface: &str) -> String {
    format!("{container}/{interface}")
}

async fn act(command: Command, settings: &Settings, asked: &Asked) -> Result<Option<Value>, Failure> {
    let _alone =
        lock(settings).map_err(|error| Failure::new(code::IO, format!("cannot lock {FOLDER}: {error}")))?;
    let network = open(settings).await?;
    let ports = Ports::of(Path::new(FOLDER), &settings.bridge);
    match command {
        Command::Add => {
            be_new(&network, asked).await?;
            let added = add(&network, &ports, settings, asked).await;
            if added.is_err() {
                let _ = remove(&network, &ports, &asked.key()).await;
            }
            added.map(Some)
        }
        Command::Del => {
            remove(&network, &ports, &asked.key()).await?;
            Ok(None)
        }
        Command::Check => check(&network, settings, asked).await.map(|()| None),
        Command::Gc => {
            let live: BTreeSet<_> =
                settings.valid.iter().map(|(container, interface)| key(container, interface)).collect();
            ports.keep(&network, &live).await?;
            network.sweep(&live).await.map_err(|error| network_failure(&error))?;
            Ok(None)
        }
        Command::Status => {
            network.reserve(NOBODY).map_err(|error| Failure::new(code::NOT_AVAILABLE, error.to_string()))?;
            Ok(None)
        }
        Command::Version => Ok(None),
    }
}

/// Only one call at a time looks which addresses are free.
fn lock(settings: &Settings) -> io::Result<File> {
    std::fs::create_dir_all(FOLDER)?;
    let file = File::create(Path::new(FOLDER).join(format!("{}.lock", settings.bridge)))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

async fn open(settings: &Settings) -> Result<Network, Failure> {
    let options = NetworkOptions {
        bridge: settings.bridge.clone(),
        pod_cidrs: settings.networks,
        formers: Vec::new(),
        mtu: settings.mtu,
        fast_path: false,
    };
    let network = Network::open(options).await.map_err(|error| network_failure(&error))?;
    network.warnings().iter().for_each(|warning| eprintln!("{warning}"));
    Ok(network)
}

/// The error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn network_failure(error: &NetworkError) -> Failure {
    let wrong = matches!(
        error,
        NetworkError::BridgeName { .. }
            | NetworkError::NotABridge { .. }
            | NetworkError::OtherNetwork { .. }
            | NetworkError::Overlap { .. }
    );
    Failure::new(if wrong { code::INVALID_CONFIGURATION } else { code::OWN }, chain(error))
}

fn attach_failure(error: &AttachError) -> Failure {
    let code = match error {
        AttachError::Exhausted(_) => code::TRY_AGAIN_LATER,
        AttachError::Namespace { .. } | AttachError::HostNamespace { .. } => code::INVALID_ENVIRONMENT,
        AttachError::InterfaceTaken { .. } | AttachError::Link { .. } | AttachError::Inside { .. } => {
            code::OWN
        }
    };
    Failure::new(code, chain(error))
}

async fn add(network: &Network, ports: &Ports, settings: &Settings, asked: &Asked) -> Result<Value, Failure> {
    let key = asked.key();
    let namespace = asked.namespace();
    let attached = network.attach_as(&key, &namespace, &asked.interface).await;
    let attached = attached.map_err(|error| attach_failure(&error))?;
    if settings.rates != Default::default() {
        let shaped = network.shape(&key, (&namespace, &asked.interface), settings.rates).await;
        shaped.map_err(|error| network_failure(&error))?;
    }
    let hidden = hide_behind_node(&settings.bridge, settings.networks, settings.masquerade);
    hidden.map_err(|error| {
        Failure::new(code::OWN, format!("cannot hide containers behind the node: {error}"))
    })?;
    ports.add(network, &key, &settings.ports_of(&attached.addresses)).await?;
    Ok(outcome(settings, asked, &attached).print(settings.version))
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// What was made.
fn outcome(settings: &Settings, asked: &Asked, attached: &Attachment) -> Outcome {
    let interface = |name: &str, mac: String, sandbox: &str| Interface {
        name: name.to_owned(),
        mac,
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    let interfaces = vec![
        interface(&settings.bridge, String::new(), ""),
        interface(&attached.host_interface, String::new(), ""),
        interface(&attached.interface, mac(attached.mac), &asked.netns),
    ];
    let networks = settings.networks.subnets();
    let of = |address: std::net::IpAddr| networks.iter().find(move |network| network.contains(address));
    let ip = |address: &std::net::IpAddr| {
        let network = of(*address)?;
        Some(Ip {
            address: *address,
            prefix: network.prefix(),
            gateway: Some(network.gateway()),
            interface: Some(2),
        })
    };
    let route = |ip: &Ip| {
        let everything = if ip.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        json!({"dst": everything, "gw": ip.gateway}).as_object().cloned()
    };
    let ips: Vec<_> = attached.addresses.iter().filter_map(ip).collect();
    let routes = ips.iter().filter_map(route).collect();
    Outcome { interfaces, ips, routes, dns: settings.dns.clone() }
}

/// The container has not been added already: what it has then stays as it is.
async fn be_new(network: &Network, asked: &Asked) -> Result<(), Failure> {
    let found = network.attached_as(&asked.key(), &asked.namespace(), &asked.interface).await;
    if found.map_err(|error| attach_failure(&error))?.is_empty() {
        return Ok(());
    }
    let message = format!("the container already has an interface {}", asked.interface);
    Err(Failure::new(code::OWN, message))
}

/// Nothing of the container is left. Repeating is harmless.
async fn remove(network: &Network, ports: &Ports, key: &str) -> Result<(), Failure> {
    ports.remove(network, key).await?;
    network.detach(key).await.map_err(|error| network_failure(&error))
}

/// The container has what ADD gave it.
async fn check(network: &Network, settings: &Settings, asked: &Asked) -> Result<(), Failure> {
    let wanted = settings.previous.as_ref().map(Outcome::addresses).unwrap_or_default();
    let found = network.attached_as(&asked.key(), &asked.namespace(), &asked.interface).await;
    let found = found.map_err(|error| attach_failure(&error))?;
    match wanted.iter().find(|address| !found.contains(address)) {
        None if !found.is_empty() => Ok(()),
        Some(address) => {
            let message = format!("{} has no address {address} any more", asked.interface);
            Err(Failure::new(code::OWN, message))
        }
        None => {
            let message =
                format!("the container has no interface {} any more, or it has no address", asked.interface);
            Err(Failure::new(code::OWN, message))
        }
    }
}
