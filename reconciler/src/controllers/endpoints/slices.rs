//! Endpoints, put into slices such that few slices change.

use super::SERVICE_LABEL;
use crate::controllers::hash::SAFE_ALPHABET;
use crate::controllers::template::{base_of, owner_reference};
use crate::controllers::{Knowledge, Outcome};
use crate::store::{State, Write};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use manifests::{Kind, Object, ObjectKey};
use std::collections::BTreeMap;

/// The most endpoints of one slice. Source: Kubernetes' `--max-endpoints-per-slice`.
const MOST: usize = 100;
/// On each slice: who writes it. Kubernetes' own word, which others look for.
const WRITER_LABEL: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
/// On slices of services without address.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

type Labels = BTreeMap<String, String>;

/// The endpoints that there are to be, by what their slices have in common.
#[derive(Debug, Default)]
pub(super) struct Wanted(Vec<Group>);

#[derive(Debug)]
struct Group {
    family: String,
    /// `None` if any ports do, since there is no endpoint.
    ports: Option<Vec<EndpointPort>>,
    /// By address.
    endpoints: BTreeMap<String, Endpoint>,
}

impl Wanted {
    pub(super) fn add(&mut self, family: &str, ports: Vec<EndpointPort>, endpoint: Endpoint) {
        let address = endpoint.addresses.first().cloned().unwrap_or_default();
        let is_same = |group: &&mut Group| group.family == family && group.ports.as_ref() == Some(&ports);
        if let Some(group) = self.0.iter_mut().find(is_same) {
            group.endpoints.insert(address, endpoint);
            return;
        }
        let endpoints = BTreeMap::from([(address, endpoint)]);
        self.0.push(Group { family: family.to_owned(), ports: Some(ports), endpoints });
    }

    /// There is a slice of the family, though nobody is in it.
    pub(super) fn add_empty(&mut self, family: &str) {
        self.0.push(Group { family: family.to_owned(), ports: None, endpoints: BTreeMap::new() });
    }

    /// The service's slices hold exactly these endpoints.
    pub(super) fn write(
        mut self,
        state: &State,
        service: &Object,
        context: &mut Knowledge<'_>,
        outcome: &mut Outcome,
    ) {
        let labels = labels(service);
        let mut kept: BTreeMap<usize, Vec<EndpointSlice>> = BTreeMap::new();
        for object in state.owned_by(service.uid()) {
            let Ok(slice) = <&EndpointSlice>::try_from(object.as_ref()) else { continue };
            if object.metadata().deletion_timestamp.is_some() {
                continue;
            }
            match self.0.iter().position(|group| group.takes(slice)) {
                Some(group) => kept.entry(group).or_default().push(slice.clone()),
                None => outcome.delete(object),
            }
        }
        for (number, group) in self.0.iter_mut().enumerate() {
            let old = kept.remove(&number).unwrap_or_default();
            group.write(old, (state, service, &labels), context, outcome);
        }
    }
}

impl Group {
    fn takes(&self, slice: &EndpointSlice) -> bool {
        let has = slice.ports.as_deref().unwrap_or_default();
        slice.address_type == self.family && self.ports.as_deref().is_none_or(|ports| ports == has)
    }

    /// Endpoints stay in their slices; new ones go to where there is room.
    fn write(
        &mut self,
        old: Vec<EndpointSlice>,
        (state, service, labels): (&State, &Object, &Labels),
        context: &mut Knowledge<'_>,
        outcome: &mut Outcome,
    ) {
        let mut next = old.clone();
        for slice in &mut next {
            slice.metadata.labels = Some(labels.clone());
            let stay = slice.endpoints.take().into_iter().flatten();
            let stay = stay.filter_map(|endpoint| self.endpoints.remove(endpoint.addresses.first()?));
            slice.endpoints = Some(stay.collect());
        }
        let mut left = std::mem::take(&mut self.endpoints).into_values();
        for slice in &mut next {
            let endpoints = slice.endpoints.get_or_insert_default();
            endpoints.extend(left.by_ref().take(MOST.saturating_sub(endpoints.len())));
        }
        // One stays, though it be empty.
        let is_full = |slice: &EndpointSlice| slice.endpoints.as_ref().is_some_and(|e| !e.is_empty());
        let some_left = left.len() > 0 || next.iter().any(is_full);
        let mut empty_kept = some_left;
        for (before, after) in old.iter().zip(next) {
            if !is_full(&after) && std::mem::replace(&mut empty_kept, true) {
                outcome.delete(&Object::from(before.clone()));
            } else if !is_same(before, &after) {
                outcome.update(after.into());
            }
        }
        let mut made = 0;
        while left.len() > 0 || (made == 0 && old.is_empty()) {
            let endpoints: Vec<_> = left.by_ref().take(MOST).collect();
            let slice = self.fresh(endpoints, (state, service, labels), context, outcome);
            outcome.writes.push(Write::Create(slice.into()));
            made += 1;
        }
    }

    fn fresh(
        &self,
        endpoints: Vec<Endpoint>,
        (state, service, labels): (&State, &Object, &Labels),
        context: &mut Knowledge<'_>,
        outcome: &Outcome,
    ) -> EndpointSlice {
        let mut slice = EndpointSlice {
            address_type: self.family.clone(),
            endpoints: Some(endpoints),
            ports: Some(self.ports.clone().unwrap_or_default()),
            ..EndpointSlice::default()
        };
        slice.metadata.name = Some(fresh_name(state, outcome, context, service));
        slice.metadata.generate_name = Some(base_of(service.name()));
        slice.metadata.namespace = Some(service.namespace().to_owned());
        slice.metadata.labels = Some(labels.clone());
        slice.metadata.owner_references = Some(vec![owner_reference(service)]);
        slice
    }
}

/// The order within a slice means nothing.
fn is_same(one: &EndpointSlice, other: &EndpointSlice) -> bool {
    let sorted = |slice: &EndpointSlice| {
        let mut slice = slice.clone();
        slice.endpoints.get_or_insert_default().sort_by(|a, b| a.addresses.cmp(&b.addresses));
        slice
    };
    sorted(one) == sorted(other)
}

/// Those of the service, and what says whose the slice is.
fn labels(service: &Object) -> Labels {
    let mut labels = service.metadata().labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.into(), service.name().into());
    labels.insert(WRITER_LABEL.0.into(), WRITER_LABEL.1.into());
    let spec = <&Service>::try_from(service).ok().and_then(|service| service.spec.as_ref());
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels
}

fn fresh_name(state: &State, outcome: &Outcome, context: &mut Knowledge<'_>, service: &Object) -> String {
    loop {
        let mut number = context.random.next();
        let mut name = base_of(service.name());
        for _ in 0..5 {
            name.push(char::from(SAFE_ALPHABET[usize::try_from(number % 27).unwrap_or_default()]));
            number /= 27;
        }
        let key = ObjectKey::new(Kind::EndpointSlice, service.namespace(), name);
        let is_planned = |write: &Write| matches!(write, Write::Create(object) if object.key() == key);
        if state.get(&key).is_none() && !outcome.writes.iter().any(is_planned) {
            return key.name;
        }
    }
}
