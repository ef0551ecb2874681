//! Inputs that are too much, made here because they are too large to keep.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use manifests::parse::{Parsed, SourceFile, parse};
use manifests::{MAX_DEPTH, MAX_FILE_BYTES};

fn read(text: impl Into<Vec<u8>>) -> Parsed {
    parse(vec![SourceFile { path: "big.yaml".into(), content: text.into() }])
}

fn codes(parsed: &Parsed) -> Vec<&'static str> {
    parsed.diagnostics.iter().map(|d| d.code).collect()
}

#[test]
fn a_file_of_fifty_megabytes_is_refused_unread() {
    assert_eq!(codes(&read(vec![b'['; 50 << 20])), ["file-too-large"]);
    assert_eq!(codes(&read(vec![b' '; MAX_FILE_BYTES])), Vec::<&str>::new());
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = String::from(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: &a0 [x, x, x, x, x, x, x, x, x, x]\n",
    );
    for level in 1..30 {
        let alias = format!("*a{},", level - 1).repeat(10);
        text += &format!("  k{level}: &a{level} [{alias}]\n");
    }
    assert_eq!(codes(&read(text)), ["alias-bomb"]);
}

#[test]
fn a_bomb_of_merges_is_refused() {
    let fields: String = (0..5000).map(|i| format!("  k{i}: x\n")).collect();
    let merges = "- {<<: *base}\n".repeat(5000);
    assert_eq!(codes(&read(format!("base: &base\n{fields}list:\n{merges}"))), ["alias-bomb"]);
}

#[test]
fn bombs_in_many_documents_are_refused() {
    let document = format!("---\na: &a [{}]\nb: [{}]\n", "x,".repeat(100), "*a,".repeat(1000));
    let parsed = read(document.repeat(500));
    assert!(codes(&parsed).contains(&"alias-bomb"), "{:?}", codes(&parsed));
}

#[test]
fn too_many_values_are_refused() {
    assert_eq!(codes(&read("- a\n".repeat(300_000))), ["too-many-values"]);
    let parsed = read("---\nx\n".repeat(260_000));
    assert!(parsed.diagnostics.len() <= 202, "{}", parsed.diagnostics.len());
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        assert_eq!(codes(&read(text)), ["too-deep"]);
    }
    let just_right = format!("{}x{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(codes(&read(just_right)), ["not-an-object"]);
}

#[test]
fn a_million_problems_are_told_in_part() {
    let fields: String = (0..100_000).map(|i| format!("  k{i}: 1\n")).collect();
    let parsed = read(format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{fields}"));
    assert_eq!(parsed.diagnostics.len(), 201);
    assert_eq!(parsed.diagnostics[200].code, "too-many-problems");
}

#[test]
fn a_long_line_is_not_kept_with_each_of_its_errors() {
    let fields: String = (0..20_000).map(|i| format!("k{i}: 1, ")).collect();
    let parsed =
        read(format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{{fields}}}}}"));
    assert!(manifests::diagnostic::render(&parsed.diagnostics, true).len() < 200 << 10);
}

#[test]
fn objects_of_two_files_must_differ() {
    let file = |path: &str| SourceFile {
        path: path.into(),
        content: b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".to_vec(),
    };
    let parsed = parse(vec![file("a.yaml"), file("b.yaml")]);
    assert_eq!(codes(&parsed), ["duplicate-object"]);
    assert_eq!(parsed.diagnostics[0].path, "b.yaml");
    assert_eq!(parsed.diagnostics[0].help.as_deref(), Some("it is first at a.yaml:3"));
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn no_message_shows_a_secret() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {pin: 987654, b: 987654, \"x/y\": '987654', yes: 987654}\ndata: {c: '987654!'}\n";
    for text in [text.to_owned(), format!("{text}broken: [987654\n")] {
        let parsed = read(text);
        assert!(parsed.has_errors());
        let shown = manifests::diagnostic::render(&parsed.diagnostics, false);
        assert!(!shown.contains("987654"), "{shown}");
    }
}
