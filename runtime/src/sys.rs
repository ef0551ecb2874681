//! One kernel facility per file: mechanism only, no pod, no policy, no log.

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod code;
pub(crate) mod descriptors;
pub(crate) mod heap;
pub(crate) mod link;
pub(crate) mod mount;
pub(crate) mod seccomp;
pub(crate) mod signals;
pub(crate) mod terminal;
pub(crate) mod writeback;
