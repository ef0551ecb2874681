//! Amounts, as systemctl writes them.

/// `1.5M`, to one decimal, in powers of 1024.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (size, unit) in UNITS {
        if count >= size {
            // Tenths in whole numbers: no rounding surprises, and no overflow below 2^60.
            let tenths = u128::from(count) * 10 / u128::from(size);
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count}B")
}

/// `12ms`, `1.234s`, `2min 3.004s`, `1h 2min 3.004s`.
pub(crate) fn cpu_time(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = format!("{}.{:03}s", millis / 1000 % 60, millis % 1000);
    match (hours, minutes) {
        (0, 0) if millis < 1000 => format!("{millis}ms"),
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}min {seconds}"),
        (hours, minutes) => format!("{hours}h {minutes}min {seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_systemctl_writes_them() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(1536), "1.5K");
        assert_eq!(bytes(12 * (1 << 20)), "12.0M");
        assert_eq!(bytes(u64::MAX), "16777215.9T");
        assert_eq!(cpu_time(999_999), "0ms");
        assert_eq!(cpu_time(1_234_000_000), "1.234s");
        assert_eq!(cpu_time(123_004_000_000), "2min 3.004s");
        assert_eq!(cpu_time(3_723_004_000_000), "1h 2min 3.004s");
    }
}
