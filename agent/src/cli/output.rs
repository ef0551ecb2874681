//! Where a command's words go.

use super::CommandError;
use crate::chain::chain;
use crate::print::{Colour, Paint};
use std::error::Error;
use std::io::{self, IsTerminal, Write};

/// Standard output, or a stand-in for it.
pub(crate) struct Output<'a> {
    sink: Box<dyn Write + 'a>,
    paint: Paint,
}

impl<'a> Output<'a> {
    /// Standard output, in colour on a terminal.
    pub(crate) fn stdout() -> Self {
        let paint = Paint::new(io::stdout().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
        Self { sink: Box::new(io::stdout()), paint }
    }

    /// Collects everything, without colour.
    #[cfg(test)]
    pub(crate) fn into(sink: &'a mut Vec<u8>) -> Self {
        Self { sink: Box::new(sink), paint: Paint::OFF }
    }

    /// How it is coloured.
    pub(crate) const fn paint(&self) -> Paint {
        self.paint
    }

    /// Writes `text` through to its reader.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&mut self, text: impl AsRef<[u8]>) -> Result<(), CommandError> {
        self.sink.write_all(text.as_ref()).and_then(|()| self.sink.flush()).map_err(CommandError::Output)
    }

    /// Writes `text` and a newline.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        self.write(format!("{text}\n"))
    }
}

/// Says on standard error what the user should know beside the output.
pub(crate) fn note(text: &str) {
    // Nobody may be left to tell it to.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says on standard error what went wrong, with its causes.
pub(crate) fn report(error: &dyn Error) {
    let paint = Paint::new(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    note(&format!("{} {}", paint.paint(Colour::Bad, "error:"), chain(error)));
}
