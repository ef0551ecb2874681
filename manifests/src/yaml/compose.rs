//! From the parser's events to trees, within a budget.
#![allow(clippy::wildcard_enum_match_arm, reason = "the parser's enums are open and have dozens of variants")]

use super::scalar::Scalar;
use super::tree::{Content, Entry, Node, NodeId, Place, Tree};
use super::{MAX_DEPTH, MAX_NODES};
use crate::report::MAX_DIAGNOSTICS;
use serde_yaml::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag, options,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;

/// One file's trees.
#[derive(Debug, Default)]
pub(crate) struct Composed<'s> {
    pub(crate) tree: Tree<'s>,
    /// The root of each document that is not empty, and that was read to its end.
    pub(crate) documents: Vec<NodeId>,
    pub(crate) errors: Vec<SyntaxError>,
}

/// The text is not YAML, or more of it than is read.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) code: &'static str,
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Reads every document of `text`. A document that cannot be read leaves an
/// error and does not hide the ones after it.
pub(crate) fn compose(text: &str) -> Composed<'_> {
    let limits = options! {
        emit_comments: false,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        emit_unresolved_aliases: true,
    };
    let parser = Parser::new_from_str_with_options(text, limits);
    let mut composer = Composer { parser, out: Composed::default(), anchors: HashMap::new(), spent: 0 };
    composer.documents();
    composer.out
}

/// The document at hand cannot be read on; the error is noted.
struct Abandoned;

/// What became of one node.
type Step<T> = Result<T, Abandoned>;

struct Composer<'s> {
    parser: Parser<'s, StrInput<'s>>,
    out: Composed<'s>,
    anchors: HashMap<usize, NodeId>,
    /// Values that the documents so far stand for, and entries that merges copied.
    spent: u64,
}

impl<'s> Composer<'s> {
    fn documents(&mut self) {
        loop {
            self.anchors.clear();
            match self.document() {
                Ok(true) => {}
                Ok(false) => return,
                Err(Abandoned) => {
                    if self.out.tree.len() as u64 >= MAX_NODES || self.out.errors.len() > 100 {
                        return;
                    }
                    match self.parser.proceed_next_document() {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return,
                    }
                }
            }
        }
    }

    /// Reads one document; false at the end of the stream.
    fn document(&mut self) -> Step<bool> {
        loop {
            let Some((event, span)) = self.next()? else { return Ok(false) };
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::DocumentEnd => return Ok(true),
                Event::StreamEnd => return Ok(false),
                other => {
                    let root = self.node(other, span, 0)?;
                    self.spend(self.out.tree.node(root).weight, place(&span))?;
                    if !self.out.tree.is_null(root) {
                        self.out.documents.push(root);
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Step<Option<(Event<'s>, Span)>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                self.out.errors.push(syntax(&error));
                Err(Abandoned)
            }
        }
    }

    fn expect(&mut self) -> Step<(Event<'s>, Span)> {
        self.next()?.ok_or(Abandoned)
    }

    fn abandon<T>(&mut self, error: SyntaxError) -> Step<T> {
        self.out.errors.push(error);
        Err(Abandoned)
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Step<NodeId> {
        let place = place(&span);
        if depth > MAX_DEPTH {
            return self.abandon(too_deep(place));
        }
        let (anchor, id) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, self.scalar(text, style, tag.as_deref(), place)?)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(place, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(place, depth)?),
            Event::Alias(target) => (0, self.alias(target, place)?),
            Event::UnresolvedAlias(name) => {
                let message = format!("alias `*{name}` has no anchor `&{name}` before it in this document");
                return self.abandon(SyntaxError { code: "unknown-alias", place, message, help: None });
            }
            _ => return Err(Abandoned),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        Ok(id)
    }

    fn add(&mut self, content: Content<'s>, place: Place, weight: u64) -> Step<NodeId> {
        if self.out.tree.len() as u64 >= MAX_NODES {
            let message = format!("the file holds more than {MAX_NODES} values");
            let help = Some("split it into several files".to_owned());
            return self.abandon(SyntaxError { code: "too-many-values", place, message, help });
        }
        if weight > MAX_NODES {
            return self.abandon(bomb(place));
        }
        Ok(self.out.tree.add(Node { content, place, weight }))
    }

    /// Notes what does not keep the rest from being read; only so much of it.
    fn note(&mut self, error: SyntaxError) {
        if self.out.errors.len() < MAX_DIAGNOSTICS {
            self.out.errors.push(error);
        }
    }

    fn spend(&mut self, weight: u64, place: Place) -> Step<()> {
        self.spent += weight;
        if self.spent > 2 * MAX_NODES { self.abandon(bomb(place)) } else { Ok(()) }
    }

    fn scalar(
        &mut self,
        text: Cow<'s, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        place: Place,
    ) -> Step<NodeId> {
        let plain = style == ScalarStyle::Plain;
        let scalar = match tag {
            None if plain => Scalar::plain(text),
            None => Scalar::String(text),
            Some(tag) => match tag.core_suffix() {
                Some("str") => Scalar::String(text),
                Some("int" | "float" | "bool" | "null") => Scalar::plain(text),
                _ if tag.original() == "!" => Scalar::String(text),
                _ => {
                    let message = format!("tag `{}` is not supported", tag.original());
                    self.note(SyntaxError { code: "unsupported-tag", place, message, help: None });
                    Scalar::String(text)
                }
            },
        };
        self.add(Content::Scalar(scalar), place, 1)
    }

    fn sequence(&mut self, place: Place, depth: usize) -> Step<NodeId> {
        let (mut items, mut weight) = (Vec::new(), 1u64);
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::SequenceEnd) {
                return self.add(Content::Sequence(items), place, weight);
            }
            let id = self.node(event, span, depth + 1)?;
            weight += self.out.tree.node(id).weight;
            items.push(id);
        }
    }

    fn mapping(&mut self, place: Place, depth: usize) -> Step<NodeId> {
        let mut map = Map::default();
        let mut weight = 1u64;
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let (key, at, merge) = self.key(event, &span)?;
            let (event, span) = self.expect()?;
            let value = self.node(event, span, depth + 1)?;
            weight += self.out.tree.node(value).weight;
            if merge {
                merges.push((value, at));
            } else if let Some(first) = map.put(Entry { key, at, value }) {
                self.note(duplicate_key(&map.entries[first], at));
            }
        }
        for (value, at) in merges {
            self.merge(&mut map, value, at)?;
        }
        // A block mapping's own place is where its first key stands.
        let place = map.entries.first().map_or(place, |e| if e.at.line >= place.line { e.at } else { place });
        let id = self.add(Content::Mapping(map.entries), place, weight)?;
        if !map.seen.is_empty() {
            self.out.tree.index(id, map.seen);
        }
        Ok(id)
    }

    fn key(&mut self, event: Event<'s>, span: &Span) -> Step<(Cow<'s, str>, Place, bool)> {
        let at = place(span);
        let refuse =
            |message: String, help: Option<String>| SyntaxError { code: "bad-key", place: at, message, help };
        match event {
            Event::Scalar(text, style, _, _) if style != ScalarStyle::Plain => Ok((text, at, false)),
            Event::Scalar(text, ..) if text == "<<" => Ok((text, at, true)),
            Event::Scalar(text, ..) => match Scalar::plain(text.clone()) {
                Scalar::Boolean(value, word) if word != "true" && word != "false" => {
                    let help = Some(format!("quote it: \"{word}\""));
                    self.out
                        .errors
                        .push(refuse(format!("key `{word}` would be read as the boolean {value}"), help));
                    Ok((text, at, false))
                }
                Scalar::Null => {
                    self.note(refuse("a key is missing or null".to_owned(), None));
                    Ok((text, at, false))
                }
                _ => Ok((text, at, false)),
            },
            _ => self.abandon(refuse("a key must be a word, not a list, mapping or alias".to_owned(), None)),
        }
    }

    fn alias(&mut self, target: usize, place: Place) -> Step<NodeId> {
        match self.anchors.get(&target) {
            Some(id) => Ok(*id),
            None => {
                let message = "the alias stands inside what it names".to_owned();
                self.abandon(SyntaxError { code: "recursive-alias", place, message, help: None })
            }
        }
    }

    /// `<<: *base` or `<<: [*a, *b]`: keys that the mapping does not have itself.
    fn merge(&mut self, map: &mut Map<'s>, value: NodeId, at: Place) -> Step<()> {
        let sources = match &self.out.tree.node(value).content {
            Content::Mapping(_) => vec![value],
            Content::Sequence(items) => items.clone(),
            Content::Scalar(_) => Vec::new(),
        };
        let all_mappings =
            sources.iter().all(|id| matches!(self.out.tree.node(*id).content, Content::Mapping(_)));
        if sources.is_empty() || !all_mappings {
            let message = "`<<` merges a mapping or a list of mappings".to_owned();
            self.note(SyntaxError { code: "bad-merge", place: at, message, help: None });
            return Ok(());
        }
        for source in sources {
            self.spend(self.out.tree.entries(source).len() as u64, at)?;
            for entry in self.out.tree.entries(source) {
                // Only what the mapping did not say itself; the merged key's place stays.
                let _ = map.put(entry.clone());
            }
        }
        Ok(())
    }
}

/// Entries in order, with an index once there are many.
#[derive(Default)]
struct Map<'s> {
    entries: Vec<Entry<'s>>,
    seen: HashMap<Cow<'s, str>, usize>,
}

impl<'s> Map<'s> {
    const FEW: usize = 16;

    /// Adds an entry, or says which one has its key already.
    fn put(&mut self, entry: Entry<'s>) -> Option<usize> {
        let next = self.entries.len();
        if next > Self::FEW {
            if self.seen.is_empty() {
                self.seen = self.entries.iter().enumerate().map(|(i, e)| (e.key.clone(), i)).collect();
            }
            return match self.seen.entry(entry.key.clone()) {
                hash_map::Entry::Occupied(first) => Some(*first.get()),
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(next);
                    self.entries.push(entry);
                    None
                }
            };
        }
        let found = self.entries.iter().position(|e| e.key == entry.key);
        if found.is_none() {
            self.entries.push(entry);
        }
        found
    }
}

fn duplicate_key(first: &Entry<'_>, at: Place) -> SyntaxError {
    SyntaxError {
        code: "duplicate-key",
        place: at,
        message: format!("key `{}` stands twice in one mapping", first.key),
        help: Some(format!("first at line {}, column {}", first.at.line, first.at.column)),
    }
}

fn too_deep(place: Place) -> SyntaxError {
    SyntaxError {
        code: "too-deep",
        place,
        message: format!("nested more than {MAX_DEPTH} levels deep"),
        help: None,
    }
}

fn bomb(place: Place) -> SyntaxError {
    SyntaxError {
        code: "alias-bomb",
        place,
        message: format!("aliases stand for more than {MAX_NODES} values"),
        help: Some("write out what is meant".to_owned()),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn place(span: &Span) -> Place {
    let length = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Place {
        line: count(span.start.line()),
        column: count(span.start.col() + 1),
        length: count(length.max(1)),
    }
}

fn syntax(error: &ScanError) -> SyntaxError {
    let at = error.marker();
    let place = Place { line: count(at.line().max(1)), column: count(at.col() + 1), length: 1 };
    let help = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => Some("indent with spaces"),
        ErrorKind::InvalidIndentation => Some("keys of one mapping start in the same column"),
        ErrorKind::MappingValueNotAllowed => {
            Some("a value that has a `:` before a space or at its end needs quotes: `\"host:\"`")
        }
        ErrorKind::SimpleKeyExpected => Some("is a `:` or a space after it missing?"),
        _ => None,
    };
    let deep = matches!(error.kind(), ErrorKind::RecursionLimitExceeded);
    if deep {
        return too_deep(place);
    }
    let message = format!("this is not YAML: {}", error.info());
    SyntaxError { code: "yaml-syntax", place, message, help: help.map(str::to_owned) }
}
