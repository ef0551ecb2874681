//! Colour, where there is a terminal to show it.

/// What a text is to say by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// All is well.
    Good,
    /// On its way, or worth a look.
    Notice,
    /// Something failed.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

/// Paints, or leaves text as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    enabled: bool,
}

impl Paint {
    /// Leaves everything as it is.
    #[cfg(test)]
    pub(crate) const OFF: Self = Self { enabled: false };

    /// Paints on a terminal, unless `no_color` (the variable NO_COLOR) is set and not empty.
    pub(crate) fn new(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> Self {
        Self { enabled: is_terminal && no_color.is_none_or(std::ffi::OsStr::is_empty) }
    }

    /// True if it paints.
    pub(crate) const fn is_enabled(self) -> bool {
        self.enabled
    }

    /// `text` in `colour`.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        if !self.enabled || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Good => "1;32",
            Colour::Notice => "1;33",
            Colour::Bad => "1;31",
            Colour::Dim => "2",
            Colour::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn paints_only_on_a_terminal_and_never_against_no_color() {
        assert!(Paint::new(true, None).is_enabled());
        assert!(Paint::new(true, Some(OsStr::new(""))).is_enabled());
        assert!(!Paint::new(true, Some(OsStr::new("1"))).is_enabled());
        assert!(!Paint::new(false, None).is_enabled());
        assert_eq!(Paint::new(true, None).paint(Colour::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint::OFF.paint(Colour::Bad, "x"), "x");
    }
}
