//! Columns, spaced as kubectl spaces them.

/// Blanks between columns.
const PADDING: usize = 3;
/// A column with its padding is at least this wide.
const MINIMUM: usize = 6;

/// The widths of columns; they only grow, so that the rows of a watch stay in line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Widths(Vec<usize>);

impl Widths {
    /// Makes room for `cells`.
    pub(crate) fn fit<S: AsRef<str>>(&mut self, cells: &[S]) {
        if self.0.len() < cells.len() {
            self.0.resize(cells.len(), MINIMUM);
        }
        for (width, cell) in self.0.iter_mut().zip(cells) {
            *width = (*width).max(cell.as_ref().chars().count() + PADDING);
        }
    }

    /// One line, without newline and without blanks at its end.
    pub(crate) fn line<S: AsRef<str>>(&self, cells: &[S]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.0) {
            line.push_str(cell.as_ref());
            let blanks = width.saturating_sub(cell.as_ref().chars().count());
            line.extend(std::iter::repeat_n(' ', blanks));
        }
        line.truncate(line.trim_end_matches(' ').len());
        line
    }
}

/// Rows under heads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Empty for none.
    pub(crate) heads: Vec<&'static str>,
    /// Each as long as `heads`.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The text, each line with its newline.
    pub(crate) fn render(&self) -> String {
        let mut widths = Widths::default();
        widths.fit(&self.heads);
        self.rows.iter().for_each(|row| widths.fit(row));
        let mut text = String::new();
        if !self.heads.is_empty() {
            text.push_str(&widths.line(&self.heads));
            text.push('\n');
        }
        for row in &self.rows {
            text.push_str(&widths.line(row));
            text.push('\n');
        }
        text
    }
}
