//! Labelled lines, the labels right-aligned as systemctl has them.

/// The widest label is `Containers`.
const LABEL_WIDTH: usize = 10;

/// A text in the making.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    text: String,
}

impl Sheet {
    /// Adds a line as it is.
    pub(super) fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Adds `label: text`; further lines of `text` stand under its first.
    pub(super) fn field(&mut self, label: &str, text: &str) {
        let mut label = format!("{label:>LABEL_WIDTH$}: ");
        for line in text.lines() {
            self.line(&format!("{label}{line}"));
            label = " ".repeat(LABEL_WIDTH + 2);
        }
    }

    /// Adds an empty line and `text`, if there is any.
    pub(super) fn section(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push('\n');
            self.text.push_str(text);
        }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}
