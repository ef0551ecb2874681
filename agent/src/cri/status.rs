//! What this runtime is, and how it is.

use super::sandbox::HANDLER;
use super::{Cri, v1};
use crate::chain::chain;
use std::collections::HashMap;

/// Of the interface; the only one there is.
const API_VERSION: &str = "v1";

/// The version of the request, which says nothing else.
const KUBE_API_VERSION: &str = "0.1.0";

pub(super) fn version() -> v1::VersionResponse {
    v1::VersionResponse {
        version: KUBE_API_VERSION.to_owned(),
        runtime_name: "keel".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: API_VERSION.to_owned(),
    }
}

pub(super) fn runtime_config() -> v1::RuntimeConfigResponse {
    let cgroup_driver = v1::CgroupDriver::Cgroupfs.into();
    v1::RuntimeConfigResponse { linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver }) }
}

impl Cri {
    pub(super) fn status(&self, verbose: bool) -> v1::StatusResponse {
        // Without the former this agent would not run.
        let network = self.node.network.state().map_err(|error| chain(&error)).err();
        let conditions = [("RuntimeReady", None), ("NetworkReady", network)].map(|(condition, wrong)| {
            let reason = if wrong.is_some() { "NetworkPluginNotReady" } else { "" };
            v1::RuntimeCondition {
                r#type: condition.to_owned(),
                status: wrong.is_none(),
                reason: reason.to_owned(),
                message: wrong.unwrap_or_default(),
            }
        });
        let features =
            || Some(v1::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true });
        let handler = |name: &str| v1::RuntimeHandler { name: name.to_owned(), features: features() };
        let info = verbose.then(|| {
            let facts = &self.node.facts;
            let text = serde_json::json!({
                "nodeName": facts.node_name,
                "stateDir": facts.state_dir,
                "logDir": facts.log_dir,
                "cgroupRoot": facts.cgroup_root,
            });
            HashMap::from([("config".to_owned(), text.to_string())])
        });
        v1::StatusResponse {
            status: Some(v1::RuntimeStatus { conditions: conditions.to_vec() }),
            info: info.unwrap_or_default(),
            runtime_handlers: vec![handler(""), handler(HANDLER)],
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                ..v1::RuntimeFeatures::default()
            }),
        }
    }
}
