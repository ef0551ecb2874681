//! One kernel facility per file: mechanism only, no pod and no policy.

pub(crate) mod address;
pub(crate) mod link;
pub(crate) mod netns;
pub(crate) mod nft;
pub(crate) mod socket;
pub(crate) mod sysctl;
