//! What matters to services, as the store has it. Pure.

use super::health::Health;
use super::objects;
use crate::catalog::Catalog;
use manifests::{Kind, Object, ObjectKey};
use netstack::{NodeView, ServiceName, ServicePort};
use reconciler::controllers::endpoints::ZONE_LABEL;
use reconciler::store::{Change, Event, Expired, State, Watch};
use std::collections::{BTreeMap, BTreeSet};

/// A service of the node's own, which gives way to one of the same name.
pub(super) type Own = Option<(ServiceName, Vec<ServicePort>)>;

/// What matters to services.
#[derive(Debug)]
pub(super) struct View {
    me: String,
    zone: Option<String>,
    catalog: Catalog,
    own: Own,
}

/// What changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touched {
    Services(BTreeSet<ServiceName>),
    /// This node, which matters to all services.
    Node,
}

impl View {
    /// `state` as the node `me` sees it, with a service of its `own`.
    pub(super) fn of(state: &State, me: &str, own: &Own) -> Self {
        let (me, own) = (me.to_owned(), own.clone());
        let mut view = Self { me, zone: None, catalog: Catalog::default(), own };
        if let Some(node) = state.get(&ObjectKey::new(Kind::Node, "", view.me.as_str())) {
            view.zone = zone(node);
        }
        for kind in [Kind::Service, Kind::EndpointSlice] {
            for object in state.list(kind, None) {
                view.catalog.put(object, true);
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
            names.extend(self.catalog.put(&event.object, event.change != Change::Deleted));
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

    /// This node.
    pub(super) fn node(&self) -> NodeView {
        NodeView { name: self.me.clone(), zone: self.zone.clone() }
    }

    /// Every service.
    pub(super) fn all(&self) -> BTreeMap<ServiceName, Vec<ServicePort>> {
        let own = self.own.iter().map(|(name, _)| name);
        self.catalog.names().chain(own).map(|name| (name.clone(), self.ports(name))).collect()
    }

    /// Those services; without ports if they are gone.
    pub(super) fn some(&self, names: BTreeSet<ServiceName>) -> Vec<(ServiceName, Vec<ServicePort>)> {
        names.into_iter().map(|name| (name.clone(), self.ports(&name))).collect()
    }

    /// What is to be told of the health of services on this node.
    pub(super) fn health(&self) -> BTreeMap<ServiceName, Health> {
        let all = self.catalog.names();
        all.filter_map(|name| Some((name.clone(), self.health_of(name)?))).collect()
    }

    /// The same of one service.
    pub(super) fn health_of(&self, name: &ServiceName) -> Option<Health> {
        let (service, slices) = self.catalog.get(name)?;
        objects::health(service, &slices, &self.me)
    }

    fn ports(&self, name: &ServiceName) -> Vec<ServicePort> {
        match (self.catalog.get(name), &self.own) {
            (Some((service, slices)), _) => objects::ports(service, &slices),
            (None, Some((own, ports))) if own == name => ports.clone(),
            (None, _) => Vec::new(),
        }
    }
}

fn zone(node: &Object) -> Option<String> {
    node.metadata().labels.as_ref()?.get(ZONE_LABEL).cloned()
}
