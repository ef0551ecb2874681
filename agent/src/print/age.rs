//! Durations and ages, in kubectl's words and in systemctl's.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Kubernetes' `HumanDuration`: at most two units, fewer the longer it is.
/// Two seconds in the future still are now, since clocks differ.
pub(crate) fn human_duration(seconds: i64) -> String {
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    let (minutes, hours, days) = (seconds / MINUTE, seconds / HOUR, seconds / DAY);
    let years = days / 365;
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// How long ago `at` was, or `<unknown>`.
pub(crate) fn since(at: Option<&Time>, now: Timestamp) -> String {
    at.map_or_else(|| "<unknown>".into(), |at| human_duration(seconds_between(at.0, now)))
}

/// Whole seconds from `from` to `to`, towards zero.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

/// systemctl's `2h 3min`: two units at most, spelled out.
pub(crate) fn human_duration_long(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(DAY, "day", "days"), (HOUR, "h", "h"), (MINUTE, "min", "min"), (1, "s", "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (length, one, many) in units {
        let count = rest / length;
        rest %= length;
        if count > 0 && words.len() < 2 {
            let space = if length == DAY { " " } else { "" };
            words.push(format!("{count}{space}{}", if count == 1 { one } else { many }));
        } else if !words.is_empty() {
            break;
        }
    }
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}

/// systemctl's `Fri 2026-11-20 21:03:11 UTC; 3h 2min ago`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let stamp = at.strftime("%a %Y-%m-%d %H:%M:%S UTC");
    format!("{stamp}; {} ago", human_duration_long(seconds_between(at, now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_writes_them() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * MINUTE + 59, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (8 * HOUR + 5 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (50 * HOUR, "2d2h"),
            (8 * DAY + HOUR, "8d"),
            (729 * DAY, "729d"),
            (730 * DAY, "2y"),
            (800 * DAY, "2y70d"),
            (8 * 365 * DAY + 3 * DAY, "8y"),
        ];
        for (seconds, words) in cases {
            assert_eq!(human_duration(seconds), words, "{seconds} s");
        }
    }

    #[test]
    fn long_durations_read_as_systemctl_writes_them() {
        let cases = [
            (-3, "0s"),
            (0, "0s"),
            (59, "59s"),
            (61, "1min 1s"),
            (3600, "1h"),
            (3605, "1h"),
            (2 * HOUR + 180, "2h 3min"),
            (DAY, "1 day"),
            (3 * DAY + 4 * HOUR + 59, "3 days 4h"),
        ];
        for (seconds, words) in cases {
            assert_eq!(human_duration_long(seconds), words, "{seconds} s");
        }
    }
}
