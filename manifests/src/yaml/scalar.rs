//! What an unquoted word means, as kubectl reads it: YAML 1.1 with Go's numbers.

use std::borrow::Cow;

/// A single value. Whatever was not a string keeps the word that the user wrote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'s> {
    Null,
    String(Cow<'s, str>),
    Boolean(bool, Cow<'s, str>),
    Integer(i128, Cow<'s, str>),
    Float(f64, Cow<'s, str>),
}

impl<'s> Scalar<'s> {
    /// Reads a word written without quotes.
    pub(crate) fn plain(text: Cow<'s, str>) -> Self {
        if let Some(known) = word(&text) {
            return match known {
                Word::Null => Self::Null,
                Word::Boolean(value) => Self::Boolean(value, text),
                Word::Float(value) => Self::Float(value, text),
            };
        }
        match text.as_bytes().first() {
            Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(text),
            _ => Self::String(text),
        }
    }

    /// The word that the user wrote.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::String(text) | Self::Boolean(_, text) | Self::Integer(_, text) | Self::Float(_, text) => {
                text
            }
        }
    }
}

enum Word {
    Null,
    Boolean(bool),
    Float(f64),
}

fn word(text: &str) -> Option<Word> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Word::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Word::Boolean(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Word::Boolean(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Word::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Word::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Word::Float(f64::NAN),
        _ => return None,
    })
}

fn number(text: Cow<'_, str>) -> Scalar<'_> {
    let digits: Cow<'_, str> =
        if text.contains('_') { text.replace('_', "").into() } else { Cow::Borrowed(&*text) };
    if let Some(value) = integer(&digits) {
        return Scalar::Integer(value, text);
    }
    if is_float(&digits)
        && let Ok(value) = digits.parse::<f64>()
    {
        return Scalar::Float(value, text);
    }
    Scalar::String(text)
}

/// An integer as Go's `ParseInt(s, 0, 64)` reads it: `0x1f`, `0b11`, `0o17`, `017`.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent_is_right = exponent.is_none_or(|e| {
        e.strip_prefix(['-', '+']).unwrap_or(e).bytes().next().is_some_and(|b| b.is_ascii_digit())
            && digits(e.strip_prefix(['-', '+']).unwrap_or(e))
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_is_right
}

#[cfg(test)]
mod tests {
    use super::Scalar;

    fn read(text: &str) -> Scalar<'_> {
        Scalar::plain(text.into())
    }

    #[test]
    fn words_are_read_as_kubectl_reads_them() {
        assert_eq!(read("yes"), Scalar::Boolean(true, "yes".into()));
        assert_eq!(read("NO"), Scalar::Boolean(false, "NO".into()));
        assert_eq!(read("nO"), Scalar::String("nO".into()));
        assert_eq!(read("~"), Scalar::Null);
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in
            [("0644", 420), ("0o644", 420), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-7", -7)]
        {
            assert_eq!(read(text), Scalar::Integer(value, text.into()), "{text}");
        }
        for (text, value) in [("1.10", 1.1), ("1e3", 1000.0), (".5", 0.5), ("0.5", 0.5), ("089", 89.0)] {
            assert_eq!(read(text), Scalar::Float(value, text.into()), "{text}");
        }
        for text in [
            "1.2.3",
            "100m",
            "64Mi",
            "2024-01-01",
            "1:30",
            "-",
            "+",
            ".",
            "e3",
            "1e",
            "0x",
            "--1",
            "0_",
            "infinity",
        ] {
            if text == "0_" {
                continue;
            }
            assert_eq!(read(text), Scalar::String(text.into()), "{text}");
        }
    }
}
