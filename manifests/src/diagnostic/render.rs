//! Diagnostics for a person, in the manner of rustc.

use super::{Diagnostic, Severity};
use std::fmt::Write;

/// The longest part of a source line that is shown, in characters.
const WIDTH: usize = 120;

/// Every diagnostic with its place and source line, then one line that sums up.
/// Empty if there is none. `color` adds ANSI colours; whatever else a file could
/// do to a terminal is taken out.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let paint = Paint { color };
    let mut out = String::new();
    for diagnostic in diagnostics {
        one(&mut out, diagnostic, paint);
        out.push('\n');
    }
    if let Some(sum) = summary(diagnostics, paint) {
        out.push_str(&sum);
        out.push('\n');
    }
    out
}

#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn severity(self, severity: Severity, text: &str) -> String {
        self.with(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }

    fn rule(self, text: &str) -> String {
        self.with("1;34", text)
    }
}

/// Writing to a `String` cannot fail.
fn line(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
    out.push('\n');
}

fn one(out: &mut String, d: &Diagnostic, paint: Paint) {
    let word = match d.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let head = paint.severity(d.severity, &format!("{word}[{}]", d.code));
    line(out, format_args!("{head}{}", paint.with("1", &format!(": {}", printable(&d.message)))));
    let number = if d.line == 0 { String::new() } else { d.line.to_string() };
    let pad = " ".repeat(number.len());
    let place = if d.line == 0 {
        printable(&d.path)
    } else {
        format!("{}:{}:{}", printable(&d.path), d.line, d.column)
    };
    line(out, format_args!("{pad}{} {place}", paint.rule("-->")));
    let bar = paint.rule("|");
    if let Some(source) = &d.source_line {
        let (text, before, carets) = excerpt(source, d.column as usize, d.length as usize);
        line(out, format_args!("{pad} {bar}"));
        line(out, format_args!("{} {bar} {text}", paint.rule(&number)));
        let carets = paint.severity(d.severity, &"^".repeat(carets));
        line(out, format_args!("{pad} {bar} {}{carets}", " ".repeat(before)));
    }
    let equals = paint.rule("=");
    if !d.field.is_empty() {
        line(out, format_args!("{pad} {equals} field: {}", printable(&d.field)));
    }
    if let Some(help) = &d.help {
        line(out, format_args!("{pad} {equals} help: {}", printable(help)));
    }
}

/// The part of a line around `column`, how many characters stand before the
/// marked ones in it, and how many are marked.
fn excerpt(source: &str, column: usize, length: usize) -> (String, usize, usize) {
    let characters: Vec<char> = source.chars().map(shown).collect();
    let start = column.saturating_sub(1).min(characters.len());
    let from = if start > WIDTH * 2 / 3 { start - WIDTH / 3 } else { 0 };
    let to = characters.len().min(from + WIDTH);
    let mut text: String = characters[from..to].iter().collect();
    let mut before = start - from;
    if from > 0 {
        text.insert_str(0, "... ");
        before += 4;
    }
    if to < characters.len() {
        text.push_str(" ...");
    }
    let carets = length.clamp(1, to.saturating_sub(start).max(1));
    (text.trim_end().to_owned(), before, carets)
}

fn shown(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Characters that turn the direction of text would move the marks.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}

fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

fn summary(diagnostics: &[Diagnostic], paint: Paint) -> Option<String> {
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    let (severity, text) = match (errors, warnings) {
        (0, 0) => return None,
        (0, w) => (Severity::Warning, plural(w, "warning")),
        (e, 0) => (Severity::Error, plural(e, "error")),
        (e, w) => (Severity::Error, format!("{}, {}", plural(e, "error"), plural(w, "warning"))),
    };
    Some(paint.severity(severity, &format!("found {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(column: u32, length: u32, source: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            path: "web.yaml".into(),
            line: 7,
            column,
            field: "spec.replica".into(),
            code: "unknown-field",
            message: "unknown field `replica`".into(),
            help: Some("did you mean `replicas`?".into()),
            length,
            source_line: Some(source.into()),
        }
    }

    #[test]
    fn an_error_looks_like_rustc() {
        let wanted = "\
error[unknown-field]: unknown field `replica`
 --> web.yaml:7:3
  |
7 |   replica: 3
  |   ^^^^^^^
  = field: spec.replica
  = help: did you mean `replicas`?

found 1 error
";
        assert_eq!(render(&[at(3, 7, "  replica: 3")], false), wanted);
    }

    #[test]
    fn nothing_to_say_is_said_with_nothing() {
        assert_eq!(render(&[], true), "");
    }

    #[test]
    fn a_file_cannot_command_the_terminal() {
        let text = render(&[at(1, 1, "a: \x1b]0;title\x07")], false);
        assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("{}here{}", "x".repeat(5000), "y".repeat(5000));
        let text = render(&[at(5001, 4, &source)], false);
        let lines: Vec<&str> = text.lines().collect();
        let start = lines[4].find('^').unwrap();
        assert_eq!(&lines[3][start..start + 4], "here");
        assert!(lines[3].len() < 140);
    }
}
