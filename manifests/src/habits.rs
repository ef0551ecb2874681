//! What a pod takes over from systemd's services: annotations of pods and pod templates.
//!
//! `evenkeel.dev/NAME` is for every container that is no init container, and
//! `CONTAINER.evenkeel.dev/NAME` for that one, instead.

mod cycles;
mod value;

use crate::kind::Kind;
pub(crate) use cycles::Orders;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use value::Value;

const DOMAIN: &str = "evenkeel.dev";

/// Those that are about a container.
pub(crate) const OF_CONTAINERS: [&str; 10] = [
    "notify",
    "start-timeout",
    "watchdog",
    "start-limit-burst",
    "start-limit-interval",
    "restart-delay",
    "restart-delay-factor",
    "restart-delay-max",
    "sockets",
    "credentials",
];
/// Those that are about the pod.
pub(crate) const OF_PODS: [&str; 2] = ["after", "requires"];

type Annotations = BTreeMap<String, String>;

/// What is wrong with an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The annotation.
    pub key: String,
    /// What.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// The habits of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habits {
    /// It says itself when it is ready, and how it is (sd_notify).
    pub notify: bool,
    /// How long it may take to say so.
    pub start_timeout: Option<Duration>,
    /// How often it has to say that it lives.
    pub watchdog: Option<Duration>,
    /// How often it may be started before it stays failed.
    pub start_limit: Option<StartLimit>,
    /// How long it waits between two runs.
    pub delays: Delays,
    /// What is open for it before it runs.
    pub sockets: Vec<Socket>,
    /// What it finds in its `$CREDENTIALS_DIRECTORY`.
    pub credentials: Vec<Credential>,
}

/// As `StartLimitBurst=` and `StartLimitIntervalSec=` of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLimit {
    /// Starts, the first one too; at least 1.
    pub burst: u32,
    /// In which they count.
    pub interval: Duration,
}

/// Between two runs; what is `None` is as Kubernetes has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// Before the first restart.
    pub first: Option<Duration>,
    /// By how much each delay is longer than the one before, in thousandths; at least 1000.
    pub factor: Option<u32>,
    /// It grows no longer than that.
    pub most: Option<Duration>,
}

/// A socket that is open as long as the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// As in `LISTEN_FDNAMES`.
    pub name: String,
    /// Datagrams instead of connections.
    pub udp: bool,
    /// Of every address of the pod.
    pub port: u16,
}

/// A file with a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The file's name.
    pub name: String,
    /// The Secret, of the pod's namespace.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// Another object of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Something that can be ready or complete.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// What a pod waits for before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Ready before this pod starts, if they are there at all.
    pub after: Vec<Workload>,
    /// There, and ready, before this pod starts.
    pub requires: Vec<Workload>,
}

impl Habits {
    /// The habits that `annotations` give to `container`. `is_init` is true for an init
    /// container that ends: what is said to all is not said to it.
    ///
    /// # Errors
    /// Every annotation that says nothing sensible.
    pub fn of(annotations: &Annotations, container: &str, is_init: bool) -> Result<Self, Vec<Mistake>> {
        let reader = Reader { annotations, container, is_init };
        let mut mistakes = Vec::new();
        let burst = reader.read("start-limit-burst", &mut mistakes);
        let interval = reader.read("start-limit-interval", &mut mistakes);
        let start_limit = burst
            .or_else(|| interval.and(Some(StartLimit::BURST)))
            .map(|burst| StartLimit { burst, interval: interval.unwrap_or(StartLimit::INTERVAL) });
        let factor = reader.read("restart-delay-factor", &mut mistakes);
        let habits = Self {
            notify: reader.read("notify", &mut mistakes).unwrap_or_default(),
            start_timeout: reader.read("start-timeout", &mut mistakes),
            watchdog: reader.read("watchdog", &mut mistakes),
            start_limit,
            delays: Delays {
                first: reader.read("restart-delay", &mut mistakes),
                factor: factor.map(|value::Factor(thousandths)| thousandths),
                most: reader.read("restart-delay-max", &mut mistakes),
            },
            sockets: reader.read("sockets", &mut mistakes).unwrap_or_default(),
            credentials: reader.read("credentials", &mut mistakes).unwrap_or_default(),
        };
        if habits.start_timeout.is_some() && !habits.notify && mistakes.is_empty() {
            mistakes.push(Mistake {
                key: reader.key("start-timeout").unwrap_or_default(),
                message: "a start has no end that could be waited for".to_owned(),
                help: Some("add `evenkeel.dev/notify: \"true\"`, or use a startupProbe".to_owned()),
            });
        }
        if mistakes.is_empty() { Ok(habits) } else { Err(mistakes) }
    }
}

impl StartLimit {
    /// systemd's own, where only the other is given.
    const BURST: u32 = 5;
    const INTERVAL: Duration = Duration::from_secs(10);
}

impl Order {
    /// What `annotations` let a pod wait for.
    ///
    /// # Errors
    /// Every annotation that names no workload.
    pub fn of(annotations: &Annotations) -> Result<Self, Vec<Mistake>> {
        let reader = Reader { annotations, container: "", is_init: false };
        let mut mistakes = Vec::new();
        let order = Self {
            after: reader.read("after", &mut mistakes).unwrap_or_default(),
            requires: reader.read("requires", &mut mistakes).unwrap_or_default(),
        };
        if mistakes.is_empty() { Ok(order) } else { Err(mistakes) }
    }

    /// All that is waited for, with the annotation that says so.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Workload)> {
        let after = self.after.iter().map(|workload| ("evenkeel.dev/after", workload));
        after.chain(self.requires.iter().map(|workload| ("evenkeel.dev/requires", workload)))
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

struct Reader<'a> {
    annotations: &'a Annotations,
    container: &'a str,
    is_init: bool,
}

impl Reader<'_> {
    /// The annotation that counts.
    fn key(&self, name: &str) -> Option<String> {
        let own = format!("{}.{DOMAIN}/{name}", self.container);
        let all = format!("{DOMAIN}/{name}");
        let is_there = |key: &String| self.annotations.contains_key(key);
        Some(own).filter(is_there).or_else(|| Some(all).filter(|key| !self.is_init && is_there(key)))
    }

    fn read<T: Value>(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Option<T> {
        let key = self.key(name)?;
        match T::read(self.annotations.get(&key)?.trim()) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                mistakes.push(Mistake { key, message, help: Some(help) });
                None
            }
        }
    }
}

/// What of a pod's annotations is a habit's name: container, if it is one's own, and name.
pub(crate) fn split(key: &str) -> Option<(Option<&str>, &str)> {
    let (prefix, name) = key.split_once('/')?;
    if prefix == DOMAIN {
        return Some((None, name));
    }
    Some((Some(prefix.strip_suffix(DOMAIN)?.strip_suffix('.')?), name))
}

#[cfg(test)]
mod tests;
