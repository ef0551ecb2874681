//! Policies and pods as the network sees them: nothing of Kubernetes' objects, nothing of the kernel.

use crate::network::Protocol;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What selectors look at.
pub type Labels = BTreeMap<String, String>;

/// The label that every namespace has, with its name.
pub(super) const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is absent, or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// It is not.
    Absent(String),
}

/// All requirements together; none of them selects everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether `labels` satisfy it.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let listed = |key, values: &[String]| labels.get(key).is_some_and(|value| values.contains(value));
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => listed(key, values),
            Requirement::NotIn(key, values) => !listed(key, values),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

/// A container's port that has a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A pod that runs, on any node, with a network of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyPod {
    /// Its namespace.
    pub namespace: String,
    /// Its own labels.
    pub labels: Labels,
    /// As far as it has any.
    pub addresses: Vec<IpAddr>,
    /// Those of its containers that have names.
    pub ports: Vec<NamedPort>,
    /// It is on this node, which answers for what reaches and leaves it.
    pub here: bool,
    /// Of two pods that are said to have one address, the higher has it.
    pub order: u64,
}

/// Names a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PolicyName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A policy: what the pods that it selects may be asked, and may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Of pods in the policy's namespace.
    pub pods: Selector,
    /// What may come in; if it says nothing of that, `None`.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out; if it says nothing of that, `None`.
    pub egress: Option<Vec<Rule>>,
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// With whom; with everybody if there is none.
    pub peers: Vec<Peer>,
    /// At which ports of who is asked; at all, and with protocols without ports, if there is none.
    pub ports: Vec<Ports>,
}

/// Somebody at the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods of these namespaces.
    Pods {
        /// Of the policy's own if `None`.
        namespaces: Option<Selector>,
        /// Of all that are in there, these.
        pods: Selector,
    },
    /// Addresses.
    Block(IpBlock),
}

/// A network without some of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    /// An address in it, and the length of its prefix in bits.
    pub network: (IpAddr, u8),
    /// The same of what does not count.
    pub except: Vec<(IpAddr, u8)>,
}

/// Ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Every one.
    All(Protocol),
    /// From one to another, both included.
    Range(Protocol, u16, u16),
    /// Those that containers of who is asked call so.
    Named(Protocol, String),
}

/// Which way a connection is opened, as the selected pod sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl Policy {
    /// Its rules for a direction, if it says anything of it.
    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// What is told of the cluster: what it is now, or that it is no more.
#[derive(Debug, Clone)]
pub enum News {
    /// A namespace, with its labels.
    Namespace(String, Option<Labels>),
    /// A policy.
    Policy(PolicyName, Option<Policy>),
    /// A pod, by its uid.
    Pod(String, Option<PolicyPod>),
}
