//! When a CronJob is due: the five fields and the macros that Kubernetes knows.
//!
//! The syntax is checked here, as strictly as Kubernetes does; croner, which
//! reads more dialects, then finds the times.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum Times {
    Fields(Box<Cron>),
    Every(SignedDuration),
}

/// The schedule or the time zone is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error("a schedule has five fields (minute, hour, day of month, month, day of week), not {0}")]
    FieldCount(usize),
    /// A field is wrong.
    #[error("{field} `{text}`: {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The part of it that is wrong.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// `@…` is none of the macros.
    #[error("there is no macro `{0}`")]
    UnknownMacro(String),
    /// The duration of `@every` is none.
    #[error("`{0}` is no duration for @every")]
    BadDuration(String),
    /// The schedule names a time zone.
    #[error("the schedule names a time zone; that belongs into `timeZone`")]
    ZoneInSchedule,
    /// No such time zone.
    #[error("there is no time zone `{0}`")]
    UnknownZone(String),
}

impl CronError {
    /// True if it is the time zone that is wrong.
    #[must_use]
    pub fn is_about_zone(&self) -> bool {
        matches!(self, Self::UnknownZone(_))
    }

    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::FieldCount(6 | 7) => Some("there is no field for seconds or years".to_owned()),
            Self::FieldCount(_) => {
                Some("every hour: `0 * * * *`; at 3:30 each Monday: `30 3 * * 1`".to_owned())
            }
            Self::Field { field: "day of week", text, .. } if text == "7" => Some("Sunday is 0".to_owned()),
            Self::UnknownMacro(name) => crate::suggest::did_you_mean(name, MACROS.iter().map(|(m, _)| *m)),
            Self::BadDuration(_) => Some("write it like `@every 1h30m`".to_owned()),
            Self::UnknownZone(_) => {
                Some("use a name of the IANA database, as `Europe/Berlin` or `Etc/UTC`".to_owned())
            }
            Self::Field { .. } | Self::ZoneInSchedule => None,
        }
    }
}

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One of the five fields: its name, bounds, and words for its numbers.
struct Unit {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const UNITS: [Unit; 5] = [
    Unit { name: "minute", low: 0, high: 59, words: &[] },
    Unit { name: "hour", low: 0, high: 23, words: &[] },
    Unit { name: "day of month", low: 1, high: 31, words: &[] },
    Unit { name: "month", low: 1, high: 12, words: &MONTHS },
    Unit { name: "day of week", low: 0, high: 6, words: &DAYS },
];

impl Schedule {
    /// Reads a schedule. Without a time zone it is UTC's.
    ///
    /// # Errors
    /// If Kubernetes would refuse the schedule or does not know the time zone.
    pub fn parse(schedule: &str, time_zone: Option<&str>) -> Result<Self, CronError> {
        let zone = zone(time_zone)?;
        if schedule.contains("TZ=") {
            return Err(CronError::ZoneInSchedule);
        }
        let schedule = schedule.trim();
        if let Some(duration) = schedule.strip_prefix("@every ") {
            return Ok(Self { times: Times::Every(every(duration)?), zone });
        }
        let fields = if schedule.starts_with('@') {
            let known = MACROS.iter().find(|(name, _)| *name == schedule);
            known.ok_or_else(|| CronError::UnknownMacro(schedule.to_owned()))?.1.to_owned()
        } else {
            numbers(schedule)?
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&fields).map_err(|error| CronError::Field {
            field: "schedule",
            text: schedule.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self { times: Times::Fields(Box::new(cron)), zone })
    }

    /// The first time after `instant`, if there is ever one (30 February is not).
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Fields(cron) => {
                let start = instant.to_zoned(self.zone.clone());
                cron.find_next_occurrence(&start, false).ok().map(|next| next.timestamp())
            }
            Times::Every(period) => {
                let whole = Timestamp::from_second(instant.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
        }
    }
}

fn zone(name: Option<&str>) -> Result<TimeZone, CronError> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let unknown = || CronError::UnknownZone(name.to_owned());
    if name.is_empty() || name.eq_ignore_ascii_case("local") {
        return Err(unknown());
    }
    TimeZone::get(name).map_err(|_| unknown())
}

/// `1h30m` as Go writes durations; at least a second.
fn every(text: &str) -> Result<SignedDuration, CronError> {
    crate::duration::parse(text.trim())
        .and_then(|d| SignedDuration::try_from(d).ok())
        .map(|d| SignedDuration::from_secs(d.as_secs()))
        .filter(|d| d.as_secs() >= 1)
        .ok_or_else(|| CronError::BadDuration(text.to_owned()))
}

/// The five fields with numbers only, as every dialect reads them.
fn numbers(schedule: &str) -> Result<String, CronError> {
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(CronError::FieldCount(fields.len()));
    }
    let fields: Result<Vec<String>, CronError> =
        fields.into_iter().zip(&UNITS).map(|(text, unit)| field(text, unit)).collect();
    Ok(fields?.join(" "))
}

fn field(text: &str, unit: &Unit) -> Result<String, CronError> {
    let parts: Result<Vec<String>, CronError> = text.split(',').map(|part| range(part, unit)).collect();
    Ok(parts?.join(","))
}

/// `*`, `n`, `a-b`, each with `/step` or without; `n/step` runs to the end.
fn range(text: &str, unit: &Unit) -> Result<String, CronError> {
    let wrong = |why: &str| CronError::Field { field: unit.name, text: text.to_owned(), why: why.to_owned() };
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (text, None),
    };
    let step = match step.map(str::parse::<u32>) {
        None => None,
        Some(Ok(step)) if step > 0 => Some(step),
        Some(_) => return Err(wrong("the step is no positive number")),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => match step {
            None | Some(1) => return Ok("*".to_owned()),
            Some(_) => (unit.low, unit.high),
        },
        Some((low, high)) => (number(low, unit)?, number(high, unit)?),
        None if step.is_some() => (number(span, unit)?, unit.high),
        None => return Ok(number(span, unit)?.to_string()),
    };
    if low > high {
        return Err(wrong("the range ends before it begins"));
    }
    // A step beyond the range leaves its beginning only.
    let step = step.unwrap_or(1);
    if step > high - low {
        return Ok(if step == 1 { format!("{low}-{high}") } else { low.to_string() });
    }
    Ok(format!("{low}-{high}/{step}"))
}

fn number(text: &str, unit: &Unit) -> Result<u32, CronError> {
    let wrong = |why: String| CronError::Field { field: unit.name, text: text.to_owned(), why };
    let word = text.to_ascii_lowercase();
    if let Some(index) = unit.words.iter().position(|w| *w == word) {
        return Ok(unit.low + u32::try_from(index).unwrap_or(0));
    }
    let value = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u32>().ok() } else { None };
    match value {
        Some(value) if (unit.low..=unit.high).contains(&value) => Ok(value),
        Some(_) => Err(wrong(format!("not between {} and {}", unit.low, unit.high))),
        None => Err(wrong("not a number".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: Option<&str>, after: &str) -> String {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        schedule.next_after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_found() {
        let after = "2026-01-31T12:34:56Z";
        for (schedule, wanted) in [
            ("*/15 * * * *", "2026-01-31T12:45:00Z"),
            ("0 0 1 * *", "2026-02-01T00:00:00Z"),
            ("30 3 * * mon", "2026-02-02T03:30:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("@hourly", "2026-01-31T13:00:00Z"),
            ("@weekly", "2026-02-01T00:00:00Z"),
            ("@every 90s", "2026-01-31T12:36:26Z"),
            ("5/20 * * * *", "2026-01-31T12:45:00Z"),
            ("0 0 13 * 5", "2026-02-06T00:00:00Z"),
            ("59 23 31 DEC ?", "2026-12-31T23:59:00Z"),
            ("* * * * *", "2026-01-31T12:35:00Z"),
        ] {
            assert_eq!(next(schedule, None, after), wanted, "{schedule}");
        }
    }

    #[test]
    fn the_time_zone_counts() {
        assert_eq!(next("0 9 * * *", Some("Asia/Tokyo"), "2026-01-31T12:00:00Z"), "2026-02-01T00:00:00Z");
        assert_eq!(
            next("0 9 * * *", Some("America/New_York"), "2026-07-01T12:00:00Z"),
            "2026-07-01T13:00:00Z"
        );
    }

    #[test]
    fn a_day_that_never_comes_is_never_due() {
        let schedule = Schedule::parse("0 0 30 2 *", None).unwrap();
        assert_eq!(schedule.next_after("2026-01-31T12:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for schedule in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "@dayly",
            "@every",
            "@every x",
            "TZ=UTC * * * * *",
            "* * L * *",
            "* * * * 5#2",
            "1,,2 * * * *",
            "+5 * * * *",
            "* * * * MO",
        ] {
            assert!(Schedule::parse(schedule, None).is_err(), "{schedule}");
        }
        for zone in ["", "Local", "Mars/Olympus"] {
            assert!(Schedule::parse("* * * * *", Some(zone)).is_err(), "{zone}");
        }
    }
}
