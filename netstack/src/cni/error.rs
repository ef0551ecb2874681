//! What can go wrong between a pod and its plugins.

use super::folder::ChoiceError;
use super::list::{ListError, NetworkList};
use super::program::CallError;
use std::io;
use std::path::Path;

/// Why plugins did not do what they were asked.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// It is not known which network is the pods'.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A plugin failed. It says so itself.
    #[error("network {network:?}")]
    Call {
        /// The network.
        network: String,
        /// What the plugin said.
        #[source]
        source: CallError,
    },
    /// The plugins gave the pod no address.
    #[error("the plugins of network {network:?} gave the pod no address")]
    NoAddress {
        /// The network.
        network: String,
    },
    /// What was made cannot be written down, or read.
    #[error("cannot {what} the record of what plugins made for pod {uid}")]
    Record {
        /// What was tried.
        what: &'static str,
        /// The pod.
        uid: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else wrote into the record.
    #[error("the record of what plugins made for pod {uid} is broken")]
    Broken {
        /// The pod.
        uid: String,
        /// How.
        #[source]
        source: ListError,
    },
    /// The namespace of the pod cannot be kept.
    #[error("cannot keep the network namespace of pod {uid}")]
    Namespace {
        /// The pod.
        uid: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(super) fn failed(list: &NetworkList, source: CallError) -> CniError {
    CniError::Call { network: list.name.clone(), source }
}

pub(super) fn broken_record(path: &Path) -> CniError {
    let uid = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    CniError::Record { what: "read", uid, source: io::ErrorKind::InvalidData.into() }
}
