//! `status.qosClass`.

use crate::plan::quantity_is_positive;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// `Guaranteed`: every container has the same limit and request of CPU and of
/// memory. `BestEffort`: none has any. `Burstable`: all else.
#[must_use]
pub fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let own = spec.resources.as_ref();
    if let Some(own) = own.filter(|own| own.limits.is_some() || own.requests.is_some()) {
        return if is_guaranteed(own.limits.as_ref(), own.requests.as_ref()) {
            "Guaranteed"
        } else {
            "Burstable"
        };
    }
    if all.clone().all(asks_nothing) {
        return "BestEffort";
    }
    let guaranteed = |container: &Container| {
        let resources = container.resources.as_ref();
        is_guaranteed(
            resources.and_then(|resources| resources.limits.as_ref()),
            resources.and_then(|resources| resources.requests.as_ref()),
        )
    };
    if all.all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

type Amounts = BTreeMap<String, Quantity>;

fn amount<'a>(amounts: Option<&'a Amounts>, name: &str) -> Option<&'a Quantity> {
    amounts?.get(name).filter(|quantity| quantity_is_positive(quantity))
}

fn asks_nothing(container: &Container) -> bool {
    let Some(resources) = &container.resources else { return true };
    ["cpu", "memory"].iter().all(|name| {
        amount(resources.limits.as_ref(), name).is_none()
            && amount(resources.requests.as_ref(), name).is_none()
    })
}

/// A request that is not written is its limit.
fn is_guaranteed(limits: Option<&Amounts>, requests: Option<&Amounts>) -> bool {
    ["cpu", "memory"].iter().all(|name| match (amount(limits, name), amount(requests, name)) {
        (Some(limit), Some(request)) => crate::plan::quantities_are_equal(limit, request),
        (Some(_), None) => true,
        (None, _) => false,
    })
}
