//! Services with their slices, as the store has them. Pure.

use super::objects;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use manifests::{Kind, Object, ObjectKey};
use netstack::{NodeView, ServiceName, ServicePort};
use reconciler::controllers::endpoints::{SERVICE_LABEL, ZONE_LABEL};
use reconciler::store::{Change, Event, Expired, State, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What matters to services.
#[derive(Debug)]
pub(super) struct View {
    me: String,
    zone: Option<String>,
    services: BTreeMap<ServiceName, Arc<Object>>,
    /// By their names.
    slices: BTreeMap<ServiceName, BTreeMap<String, Arc<Object>>>,
}

/// What changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touched {
    Services(BTreeSet<ServiceName>),
    /// This node, which matters to all services.
    Node,
}

impl View {
    /// `state` as the node `me` sees it.
    pub(super) fn of(state: &State, me: &str) -> Self {
        let me = me.to_owned();
        let mut view = Self { me, zone: None, services: BTreeMap::new(), slices: BTreeMap::new() };
        if let Some(node) = state.get(&ObjectKey::new(Kind::Node, "", view.me.as_str())) {
            view.zone = zone(node);
        }
        for kind in [Kind::Service, Kind::EndpointSlice] {
            for object in state.list(kind, None) {
                view.put(object, true);
            }
        }
        view
    }

    /// Takes in what has changed.
    ///
    /// # Errors
    /// If it fell too far behind: read anew.
    pub(super) fn follow(&mut self, watch: &mut Watch) -> Result<Touched, Expired> {
        let mut names = BTreeSet::new();
        let mut moved = false;
        while let Some(event) = watch.try_next()? {
            moved |= self.is_moved(&event);
            names.extend(self.put(&event.object, event.change != Change::Deleted));
        }
        Ok(if moved { Touched::Node } else { Touched::Services(names) })
    }

    /// This node has another zone than before.
    fn is_moved(&mut self, event: &Event) -> bool {
        let object = &event.object;
        if object.kind() != Kind::Node || object.name() != self.me || event.change == Change::Deleted {
            return false;
        }
        let zone = zone(object);
        std::mem::replace(&mut self.zone, zone.clone()) != zone
    }

    /// The service that the object is, or is about.
    fn put(&mut self, object: &Arc<Object>, is_there: bool) -> Option<ServiceName> {
        let named = |name: &str| ServiceName { namespace: object.namespace().into(), name: name.into() };
        #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind matters to services")]
        match object.kind() {
            Kind::Service => {
                let name = named(object.name());
                if is_there {
                    self.services.insert(name.clone(), Arc::clone(object));
                } else {
                    self.services.remove(&name);
                }
                Some(name)
            }
            Kind::EndpointSlice => {
                let name = named(object.metadata().labels.as_ref()?.get(SERVICE_LABEL)?);
                let slices = self.slices.entry(name.clone()).or_default();
                if is_there {
                    slices.insert(object.name().into(), Arc::clone(object));
                } else {
                    slices.remove(object.name());
                }
                if slices.is_empty() {
                    self.slices.remove(&name);
                }
                Some(name)
            }
            _ => None,
        }
    }

    /// This node.
    pub(super) fn node(&self) -> NodeView {
        NodeView { name: self.me.clone(), zone: self.zone.clone() }
    }

    /// Every service.
    pub(super) fn all(&self) -> BTreeMap<ServiceName, Vec<ServicePort>> {
        self.services.keys().map(|name| (name.clone(), self.ports(name))).collect()
    }

    /// Those services; without ports if they are gone.
    pub(super) fn some(&self, names: BTreeSet<ServiceName>) -> Vec<(ServiceName, Vec<ServicePort>)> {
        names.into_iter().map(|name| (name.clone(), self.ports(&name))).collect()
    }

    fn ports(&self, name: &ServiceName) -> Vec<ServicePort> {
        let service = self.services.get(name).and_then(|object| <&Service>::try_from(&**object).ok());
        let Some(service) = service else { return Vec::new() };
        let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values);
        let slices: Vec<_> = slices.filter_map(|object| <&EndpointSlice>::try_from(&**object).ok()).collect();
        objects::ports(service, &slices)
    }
}

fn zone(node: &Object) -> Option<String> {
    node.metadata().labels.as_ref()?.get(ZONE_LABEL).cloned()
}
