//! Quantities as whole numbers of what the kernel counts in.

use super::error::Cause;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Rounded up to bytes (or any whole unit).
pub(crate) fn bytes(quantity: &Quantity) -> Result<u64, Cause> {
    scaled(quantity, 1)
}

/// Rounded up to thousandths.
pub(super) fn millis(quantity: &Quantity) -> Result<u64, Cause> {
    scaled(quantity, 1000)
}

fn scaled(quantity: &Quantity, scale: i128) -> Result<u64, Cause> {
    let bad = || Cause::BadQuantity { text: quantity.0.clone() };
    let nanos = nanos(&quantity.0).ok_or_else(bad)?;
    let value = (nanos * scale + NANO - 1) / NANO;
    u64::try_from(value).map_err(|_| bad())
}

const NANO: i128 = 1_000_000_000;

/// In thousand-millionths; `None` if `text` is no quantity, or too large for any machine.
fn nanos(text: &str) -> Option<i128> {
    let end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+' && c != '-').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = factor(suffix)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    let scaled = digits.checked_mul(numerator)?.checked_mul(NANO)?;
    Some(scaled.checked_add(divisor - 1)? / divisor)
}

/// What a suffix multiplies by, as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (1000 * NANO, 1),
        "P" => (1_000_000 * NANO, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, ten) } else { (ten, 1) }
        }
    })
}

/// True if it is a quantity above zero.
pub(crate) fn is_positive(quantity: &Quantity) -> bool {
    nanos(&quantity.0).is_some_and(|nanos| nanos > 0)
}

/// True if both say the same amount, however written.
pub(crate) fn are_equal(one: &Quantity, other: &Quantity) -> bool {
    nanos(&one.0) == nanos(&other.0)
}
