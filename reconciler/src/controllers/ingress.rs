//! Ingress: says in each by which addresses it is served.
//!
//! A node that serves says so in its Node object, with the class that it serves; a node that is not
//! ready serves nobody. All Ingresses are looked at together: what a node says matters to all of them.

#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome};
use crate::store::{Event, State};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressLoadBalancerIngress, IngressLoadBalancerStatus,
};
use manifests::ingress::{CLASS, CONTROLLER};
use manifests::{Kind, ObjectKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The annotation of a Node that serves Ingresses: an [`Announcement`].
pub const ANNOTATION: &str = "evenkeel.dev/ingress";
/// The annotation of the IngressClass of Ingresses without one.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// What a node says of the Ingresses that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Their class.
    pub class_name: String,
    /// It serves those without a class too, if no IngressClass is the default.
    pub default: bool,
    /// Where clients find it, if not at the node's own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

impl Announcement {
    /// As it is written in the Node.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings and a boolean: it can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What `node` says.
    fn of(node: &Node) -> Option<Self> {
        serde_json::from_str(node.metadata.annotations.as_ref()?.get(ANNOTATION)?).ok()
    }

    /// Whether `ingress` is for this node, where `classes` are all that there are.
    #[must_use]
    pub fn serves(&self, ingress: &Ingress, classes: &[&IngressClass]) -> bool {
        let name = |class: &IngressClass| class.metadata.name.clone().unwrap_or_default();
        let named = class_of(ingress).map(str::to_owned);
        let Some(class) = named.or_else(|| default_class(classes).map(name)) else { return self.default };
        let known = classes.iter().find(|known| name(known) == class);
        class == self.class_name && known.is_none_or(|known| controller(known) == CONTROLLER)
    }
}

/// The class that `ingress` names.
#[must_use]
pub fn class_of(ingress: &Ingress) -> Option<&str> {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    named.or_else(|| ingress.metadata.annotations.as_ref()?.get(CLASS).map(String::as_str))
}

fn controller(class: &IngressClass) -> &str {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default()
}

/// The youngest, if several are. Source: Kubernetes' admission plugin `DefaultIngressClass`.
fn default_class<'a>(classes: &[&'a IngressClass]) -> Option<&'a IngressClass> {
    let is_default = |class: &&&IngressClass| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(DEFAULT)).is_some_and(|word| word == "true")
    };
    let born = |class: &&&IngressClass| {
        (class.metadata.creation_timestamp.as_ref().map(|time| time.0), class.metadata.name.clone())
    };
    classes.iter().filter(is_default).max_by_key(born).copied()
}

/// What stands for all Ingresses.
fn all() -> ObjectKey {
    ObjectKey::new(Kind::Ingress, "", "")
}

/// The keys to look at after `event`.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    let matters = matches!(event.object.kind(), Kind::Ingress | Kind::IngressClass | Kind::Node);
    if matters { vec![all()] } else { Vec::new() }
}

/// Every Ingress has the addresses of the nodes that serve it in its status.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, _: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if *key != all() {
        return outcome;
    }
    let nodes = state.list(Kind::Node, None).filter_map(|object| <&Node>::try_from(&**object).ok());
    let doors: Vec<_> = nodes
        .filter(|node| is_ready(node))
        .filter_map(|node| Some((Announcement::of(node)?, node)))
        .collect();
    let classes = classes(state);
    for object in state.list(Kind::Ingress, None) {
        let Ok(ingress) = <&Ingress>::try_from(&**object) else { continue };
        let known = class_of(ingress)
            .and_then(|name| classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)));
        // Another controller's are its own business.
        if known.is_some_and(|class| controller(class) != CONTROLLER) {
            continue;
        }
        let serving = doors.iter().filter(|(door, _)| door.serves(ingress, &classes));
        let wanted: BTreeSet<_> = serving.flat_map(|(door, node)| addresses(door, node)).collect();
        let wanted: Vec<_> = wanted.into_iter().map(entry).collect();
        let current = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let current = current.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        if current != wanted {
            let mut changed = ingress.clone();
            let ingress = (!wanted.is_empty()).then_some(wanted);
            changed.status.get_or_insert_default().load_balancer =
                Some(IngressLoadBalancerStatus { ingress });
            outcome.update_status(changed.into());
        }
    }
    outcome
}

/// All IngressClasses of `state`.
#[must_use]
pub fn classes(state: &State) -> Vec<&IngressClass> {
    let all = state.list(Kind::IngressClass, None);
    all.filter_map(|object| <&IngressClass>::try_from(&**object).ok()).collect()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn addresses(door: &Announcement, node: &Node) -> Vec<String> {
    if !door.addresses.is_empty() {
        return door.addresses.clone();
    }
    let own = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    own.filter(|address| address.type_ == "InternalIP").map(|address| address.address.clone()).collect()
}

fn entry(address: String) -> IngressLoadBalancerIngress {
    let is_ip = address.parse::<IpAddr>().is_ok();
    let (ip, hostname) = if is_ip { (Some(address), None) } else { (None, Some(address)) };
    IngressLoadBalancerIngress { ip, hostname, ports: None }
}
