//! Defaults.
use crate::object::Object;
/// x
pub fn apply(_o: &mut Object) {}
