//! Which devices a container may open.

use serde::{Deserialize, Serialize};

/// Which devices a container may open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// Whatever its capabilities and files allow.
    #[default]
    All,
    /// [`USUAL`] and these.
    Usual(Vec<DeviceRule>),
}

/// Devices that may be used in some ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// A disk, not a character device.
    pub block: bool,
    /// Every one if `None`.
    pub major: Option<u32>,
    /// Every one if `None`.
    pub minor: Option<u32>,
    /// A node for it may be made.
    pub make: bool,
    /// It may be opened to read.
    pub read: bool,
    /// It may be opened to write.
    pub write: bool,
}

const fn open(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { block: false, major: Some(major), minor, make: true, read: true, write: true }
}

const fn make(block: bool) -> DeviceRule {
    DeviceRule { block, major: None, minor: None, make: true, read: false, write: false }
}

/// What every container may do: make any node, and open those that the OCI runtime specification
/// gives it, and terminals.
pub const USUAL: [DeviceRule; 11] = [
    make(false),
    make(true),
    open(1, Some(3)),
    open(1, Some(5)),
    open(1, Some(7)),
    open(1, Some(8)),
    open(1, Some(9)),
    open(5, Some(0)),
    open(5, Some(1)),
    open(5, Some(2)),
    open(136, None),
];

impl Devices {
    /// Every rule; `None` if there is nothing to be kept from.
    pub(crate) fn rules(&self) -> Option<impl Iterator<Item = DeviceRule>> {
        match self {
            Self::All => None,
            Self::Usual(more) => Some(USUAL.into_iter().chain(more.iter().copied())),
        }
    }
}
