//! The part of an image's configuration that a runtime uses.

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image says of running it; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Comes before the arguments.
    pub entrypoint: Vec<String>,
    /// The arguments when the pod gives none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// `user[:group]`, each a name or a number.
    pub user: String,
    /// Sent to stop it, instead of SIGTERM.
    pub stop_signal: Option<String>,
    /// `port/protocol`; for information.
    pub exposed_ports: Vec<String>,
    /// For information.
    pub labels: BTreeMap<String, String>,
}

impl From<&ImageConfiguration> for ImageConfig {
    fn from(image: &ImageConfiguration) -> Self {
        let Some(config) = image.config() else { return Self::default() };
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        Self {
            entrypoint: list(config.entrypoint()),
            cmd: list(config.cmd()),
            env: list(config.env()),
            working_dir: config.working_dir().clone().unwrap_or_default(),
            user: config.user().clone().unwrap_or_default(),
            stop_signal: config.stop_signal().clone().filter(|signal| !signal.is_empty()),
            exposed_ports: list(config.exposed_ports()),
            labels: config.labels().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }
}
