//! Kubernetes quantities: `100m`, `64Mi`, `1e3`, `0.5`, exactly.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// One unit, in the nano-units that a [`Quantity`] counts.
const UNIT: i128 = 1_000_000_000;
/// Kubernetes caps quantities here.
const MAX: i128 = (i64::MAX as i128) * UNIT;

/// A fixed-point number between -(2^63-1) and 2^63-1, to the billionth; what is
/// larger is capped, what is finer is rounded away from zero, as Kubernetes does.
/// Compared by value: `1000m` equals `1`.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that a quantity was written with, and is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// The text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Nothing is there.
    #[error("a quantity is missing")]
    Empty,
    /// It does not begin with a number.
    #[error("`{0}` does not begin with a number")]
    NoNumber(String),
    /// The number is followed by something that is no suffix.
    #[error("`{suffix}` is no suffix of a quantity")]
    UnknownSuffix {
        /// What stands after the number.
        suffix: String,
    },
}

impl QuantityError {
    /// What the user may have meant.
    #[must_use]
    pub fn help(&self) -> String {
        const SUFFIXES: &str =
            "use a number with m, k, M, G, T, P, E or Ki, Mi, Gi, Ti, Pi, Ei: `500m`, `64Mi`";
        match self {
            Self::UnknownSuffix { suffix } => match nearest_suffix(suffix) {
                Some(near) => format!("did you mean `{near}`?"),
                None => SUFFIXES.to_owned(),
            },
            Self::Empty | Self::NoNumber(_) => SUFFIXES.to_owned(),
        }
    }
}

fn nearest_suffix(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "K" => "k",
        "KB" | "kB" | "kb" => "k",
        "MB" | "mb" | "Mb" => "M",
        "GB" | "gb" | "Gb" | "g" => "G",
        "TB" | "tb" | "t" => "T",
        "ki" | "KI" | "KiB" | "kib" => "Ki",
        "mi" | "MI" | "MiB" | "mib" => "Mi",
        "gi" | "GI" | "GiB" | "gib" => "Gi",
        "ti" | "TI" | "TiB" | "tib" => "Ti",
        _ => return None,
    })
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// If it has no number, or a suffix that Kubernetes does not know.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Empty);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::NoNumber(text.to_owned()));
        }
        let (scale, format) = scale(suffix)?;
        let nanos = magnitude(whole, fraction, scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// In thousandths, rounded up: the CPU's millicores.
    #[must_use]
    pub fn millis_ceil(&self) -> i64 {
        capped(div_ceil(self.nanos, UNIT / 1000))
    }

    /// In whole units, rounded up: the memory's bytes.
    #[must_use]
    pub fn bytes_ceil(&self) -> i64 {
        capped(div_ceil(self.nanos, UNIT))
    }

    /// True if it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// True if it is a whole number.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nanos % UNIT == 0
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i64),
    /// A power of two.
    Two(u32),
}

fn scale(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    use Format::{Binary, Decimal, Exponent};
    let ten = |power| Ok((Scale::Ten(power), Decimal));
    let two = |power| Ok((Scale::Two(power), Binary));
    match suffix {
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "" => ten(0),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => {
            let power = suffix
                .strip_prefix(['e', 'E'])
                .filter(|digits| digits.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse::<i32>().ok());
            match power {
                Some(power) => Ok((Scale::Ten(power.into()), Exponent)),
                None => Err(QuantityError::UnknownSuffix { suffix: suffix.to_owned() }),
            }
        }
    }
}

/// `whole.fraction` times `scale` in nano-units, rounded up and capped.
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    match scale {
        Scale::Ten(power) => decimal(whole, fraction, power + 9),
        // Up to 2^60 the product with 34 digits would overflow, so digits beyond
        // what can matter (2^60 is below 10^19, nano is 10^-9) are only rounded.
        Scale::Two(power) => {
            let factor = 1i128 << power;
            let units = decimal(whole, "", 0).min(MAX);
            let above = units.saturating_mul(factor).saturating_mul(UNIT);
            above.saturating_add(binary_fraction(fraction, power)).min(MAX)
        }
    }
}

/// `0.fraction` times 2^power in nano-units, rounded up: long multiplication by
/// 2, digit by digit, so that no digit is lost.
fn binary_fraction(fraction: &str, power: u32) -> i128 {
    let mut digits: Vec<u8> = fraction.bytes().map(|b| b - b'0').collect();
    let mut units: i128 = 0;
    for _ in 0..power {
        let carry = times(&mut digits, 2);
        units = units * 2 + i128::from(carry);
    }
    for _ in 0..9 {
        let carry = times(&mut digits, 10);
        units = units * 10 + i128::from(carry);
    }
    units + i128::from(digits.iter().any(|d| *d != 0))
}

/// Multiplies the decimal fraction `0.d1d2…` and returns what crossed the point.
fn times(digits: &mut [u8], factor: u8) -> u8 {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let product = *digit * factor + carry;
        *digit = product % 10;
        carry = product / 10;
    }
    carry
}

/// `whole.fraction` times 10^power, rounded up and capped.
fn decimal(whole: &str, fraction: &str, power: i64) -> i128 {
    let digits = || whole.bytes().chain(fraction.bytes());
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(power);
    let mut value: i128 = 0;
    let mut position: i64 = 0;
    let mut rest = false;
    for byte in digits() {
        if position < point {
            value = (value * 10 + i128::from(byte - b'0')).min(MAX);
        } else {
            rest |= byte != b'0';
        }
        position += 1;
    }
    while position < point && value != 0 && value < MAX {
        value = (value * 10).min(MAX);
        position += 1;
    }
    (value + i128::from(rest)).min(MAX)
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn capped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

/// The canonical form: no fraction, the largest suffix of its family.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.nanos;
        if value == 0 {
            return f.write_str("0");
        }
        if self.format == Format::Binary && value.abs() >= 1024 * UNIT && self.is_whole() {
            let (mut value, mut suffixes) = (value / UNIT, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter());
            let mut suffix = "";
            while value % 1024 == 0 {
                let Some(next) = suffixes.next() else { break };
                (value, suffix) = (value / 1024, next);
            }
            return write!(f, "{value}{suffix}");
        }
        let (mut value, mut power) = (value, -9i32);
        while value % 1000 == 0 && power < 18 {
            (value, power) = (value / 1000, power + 3);
        }
        if self.format == Format::Exponent && power != 0 {
            return write!(f, "{value}e{power}");
        }
        let suffix = match power {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests;
