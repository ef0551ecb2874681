//! What a program says with sd_notify. Source: sd_notify(3).

use std::time::Duration;

/// As much of a status as is shown.
const TEXT_BYTES: usize = 512;

/// What was said, in any number of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// `READY=1`.
    pub(crate) ready: bool,
    /// `STOPPING=1`.
    pub(crate) stopping: bool,
    /// `WATCHDOG=1`.
    pub(crate) alive: bool,
    /// `WATCHDOG=trigger`.
    pub(crate) stuck: bool,
    /// `WATCHDOG_USEC=`.
    pub(crate) watchdog: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`.
    pub(crate) extend: Option<Duration>,
    /// `STATUS=`.
    pub(crate) text: Option<String>,
}

impl News {
    /// Takes one message into account. Words that mean nothing here (`MAINPID`, `FDSTORE`,
    /// `RELOADING`…) are left out.
    pub(super) fn add(&mut self, message: &[u8]) {
        for line in String::from_utf8_lossy(message).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => self.ready = true,
                Some(("STOPPING", "1")) => self.stopping = true,
                Some(("WATCHDOG", "1")) => self.alive = true,
                Some(("WATCHDOG", "trigger")) => self.stuck = true,
                Some(("WATCHDOG_USEC", text)) => self.watchdog = usec(text).or(self.watchdog),
                Some(("EXTEND_TIMEOUT_USEC", text)) => self.extend = usec(text).or(self.extend),
                Some(("STATUS", text)) => self.text = Some(shown(text)),
                Some(_) | None => {}
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn usec(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)
}

/// What a container says must not command a terminal.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
        if shown.len() + c.len_utf8() > TEXT_BYTES {
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_add_up() {
        let mut news = News::default();
        assert!(news.is_empty());
        news.add(b"READY=1\nSTATUS=Listening on 80\nMAINPID=4\n");
        news.add(b"WATCHDOG=1\nWATCHDOG_USEC=2000000\nEXTEND_TIMEOUT_USEC=5000");
        assert_eq!(
            news,
            News {
                ready: true,
                alive: true,
                watchdog: Some(Duration::from_secs(2)),
                extend: Some(Duration::from_millis(5)),
                text: Some("Listening on 80".into()),
                ..News::default()
            }
        );
    }

    #[test]
    fn nonsense_says_nothing() {
        let mut news = News::default();
        news.add(b"\xff\xfe=\n=\nREADY=2\nWATCHDOG_USEC=-1\nWATCHDOG_USEC=0\nREADY");
        assert!(news.is_empty(), "{news:?}");
        news.add(b"STATUS=\x1b[31mred");
        assert_eq!(news.text.as_deref(), Some("\u{fffd}[31mred"));
        news.add(format!("STATUS={}", "ä".repeat(4000)).as_bytes());
        assert_eq!(news.text.map(|text| text.len()), Some(512));
    }
}
