//! Amounts of bytes as quantities, and back.

use manifests::quantity::Quantity;

/// A whole number as a quantity with binary suffixes: `1536Ki`.
pub(super) fn binary(number: u64) -> String {
    let (mut value, mut suffix) = (number, "");
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if value == 0 || value % 1024 != 0 {
            break;
        }
        (value, suffix) = (value / 1024, next);
    }
    format!("{value}{suffix}")
}

/// A quantity as a whole number; what is none is nothing.
pub(super) fn whole(text: &str) -> u64 {
    Quantity::parse(text).ok().and_then(|quantity| u64::try_from(quantity.bytes_ceil()).ok()).unwrap_or(0)
}
