//! The one place of this crate where `unsafe` may stand, one facility per file.

pub(crate) mod heap;
pub(crate) mod libgit2;
