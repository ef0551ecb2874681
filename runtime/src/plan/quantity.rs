//! Quantities of a manifest as whole numbers of what the kernel counts in.

use super::error::Cause;
use k8s_openapi::apimachinery::pkg::api::resource;
use manifests::quantity::Quantity;

/// Rounded up to bytes (or any whole unit).
pub(crate) fn bytes(quantity: &resource::Quantity) -> Result<u64, Cause> {
    parse(quantity).map(|amount| u64::try_from(amount.bytes_ceil()).unwrap_or(0))
}

/// Rounded up to thousandths.
pub(super) fn millis(quantity: &resource::Quantity) -> Result<u64, Cause> {
    parse(quantity).map(|amount| u64::try_from(amount.millis_ceil()).unwrap_or(0))
}

/// True if it is a quantity above zero.
pub(crate) fn is_positive(quantity: &resource::Quantity) -> bool {
    parse(quantity).is_ok_and(|amount| Quantity::parse("0").is_ok_and(|zero| amount > zero))
}

/// True if both say the same amount, however written.
pub(crate) fn are_equal(one: &resource::Quantity, other: &resource::Quantity) -> bool {
    parse(one).is_ok_and(|one| parse(other).is_ok_and(|other| one == other))
}

fn parse(quantity: &resource::Quantity) -> Result<Quantity, Cause> {
    Quantity::parse(&quantity.0).map_err(|_| Cause::BadQuantity { text: quantity.0.clone() })
}
