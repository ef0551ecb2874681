//! How fast a pod may send and receive, as annotations say it.
//!
//! Source: "Support traffic shaping" in Kubernetes' documentation of network plugins.

use crate::quantity::Quantity;
use std::collections::BTreeMap;

/// What the pod receives.
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// What the pod sends.
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// Bits per second; what is not limited is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress: Option<u64>,
    /// What the pod sends.
    pub egress: Option<u64>,
}

/// An annotation that says no speed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandwidthError {
    /// The annotation.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What would be right, if that is known.
    pub help: Option<String>,
}

impl Bandwidth {
    /// As the annotations say.
    ///
    /// # Errors
    /// Every one of them that says no speed between 1k and 1P.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, Vec<BandwidthError>> {
        let mut errors = Vec::new();
        let mut one = |key: &'static str| {
            let text = annotations.get(key)?;
            match speed(text) {
                Ok(speed) => Some(speed),
                Err((message, help)) => {
                    errors.push(BandwidthError { key, message, help });
                    None
                }
            }
        };
        let bandwidth = Self { ingress: one(INGRESS), egress: one(EGRESS) };
        if errors.is_empty() { Ok(bandwidth) } else { Err(errors) }
    }
}

fn speed(text: &str) -> Result<u64, (String, Option<String>)> {
    /// A kilobit, and a petabit.
    const ALLOWED: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;
    let quantity = Quantity::parse(text).map_err(|error| (error.to_string(), Some(error.help())))?;
    let bits = u64::try_from(quantity.bytes_ceil()).unwrap_or(0);
    if ALLOWED.contains(&bits) {
        return Ok(bits);
    }
    let help = Some("it is in bits per second: `10M` is 10 Mbit/s".to_owned());
    Err((format!("`{text}` is not between 1k and 1P"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_quantities_of_bits_within_reason() {
        let of = |ingress: &str| Bandwidth::of(&BTreeMap::from([(INGRESS.to_owned(), ingress.to_owned())]));
        assert_eq!(of("10M"), Ok(Bandwidth { ingress: Some(10_000_000), egress: None }));
        assert_eq!(of("1Gi").unwrap().ingress, Some(1 << 30));
        assert_eq!(
            (of("1k").unwrap().ingress, of("1P").unwrap().ingress),
            (Some(1_000), Some(1_000_000_000_000_000))
        );
        assert_eq!(Bandwidth::of(&BTreeMap::new()), Ok(Bandwidth::default()));
        for wrong in ["999", "0", "-1M", "1001T", "2P", "10 Mbit", "", "fast"] {
            assert_eq!(of(wrong).unwrap_err()[0].key, INGRESS, "{wrong}");
        }
    }
}
