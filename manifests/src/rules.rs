//! Rules.
use crate::object::Object;
use crate::report::Report;
pub(crate) fn before_defaults(_o: &Object, _r: &mut Report<'_>) {}
pub(crate) fn check(_o: &Object, _r: &mut Report<'_>) {}
