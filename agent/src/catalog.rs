//! Services with their slices, as the store has them. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use manifests::{Kind, Object};
use netstack::ServiceName;
use reconciler::controllers::endpoints::SERVICE_LABEL;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    services: BTreeMap<ServiceName, Arc<Object>>,
    /// By their names.
    slices: BTreeMap<ServiceName, BTreeMap<String, Arc<Object>>>,
}

impl Catalog {
    /// Takes in an object that is there, or is gone. Returns the service that it is, or is about.
    pub(crate) fn put(&mut self, object: &Arc<Object>, is_there: bool) -> Option<ServiceName> {
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

    /// Every service.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// That service, and its slices.
    pub(crate) fn get(&self, name: &ServiceName) -> Option<(&Service, Vec<&EndpointSlice>)> {
        let service = self.services.get(name).and_then(|object| <&Service>::try_from(&**object).ok())?;
        let slices = self.slices.get(name).into_iter().flat_map(BTreeMap::values);
        let slices = slices.filter_map(|object| <&EndpointSlice>::try_from(&**object).ok());
        Some((service, slices.collect()))
    }
}
