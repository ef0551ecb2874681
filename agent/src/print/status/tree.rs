//! Trees, drawn as `systemd-cgls` draws them.

/// A line and what hangs on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Branch {
    /// The line.
    pub(crate) text: String,
    /// In order.
    pub(crate) children: Vec<Branch>,
}

impl Branch {
    /// A line without children.
    pub(crate) fn leaf(text: impl Into<String>) -> Self {
        Self { text: text.into(), children: Vec::new() }
    }

    /// The lines, without newline at the end.
    pub(crate) fn render(&self) -> String {
        let mut text = self.text.clone();
        self.render_children("", &mut text);
        text
    }

    fn render_children(&self, indent: &str, text: &mut String) {
        for (at, child) in self.children.iter().enumerate() {
            let last = at + 1 == self.children.len();
            let (knot, blank) = if last { ("└─", "  ") } else { ("├─", "│ ") };
            text.push('\n');
            text.push_str(indent);
            text.push_str(knot);
            text.push_str(&child.text);
            child.render_children(&format!("{indent}{blank}"), text);
        }
    }
}
