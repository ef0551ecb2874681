//! The positioned tree of one file. Aliases share their target's node, so the
//! tree never grows beyond the text.

use super::scalar::Scalar;
use std::borrow::Cow;
use std::collections::HashMap;

/// Where something stands: line and column from 1, length, all in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) length: u32,
}

/// Index of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(super) usize);

/// One value.
#[derive(Debug)]
pub(crate) struct Node<'s> {
    pub(crate) content: Content<'s>,
    pub(crate) place: Place,
    /// How many values it stands for, aliases followed.
    pub(super) weight: u64,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Content<'s> {
    Scalar(Scalar<'s>),
    Sequence(Vec<NodeId>),
    Mapping(Vec<Entry<'s>>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'s> {
    pub(crate) key: Cow<'s, str>,
    pub(crate) at: Place,
    pub(crate) value: NodeId,
}

/// Every node of one file.
#[derive(Debug, Default)]
pub(crate) struct Tree<'s> {
    nodes: Vec<Node<'s>>,
    /// Where each key stands, for mappings too large to search.
    indices: HashMap<usize, HashMap<Cow<'s, str>, usize>>,
}

impl<'s> Tree<'s> {
    pub(crate) fn node(&self, id: NodeId) -> &Node<'s> {
        &self.nodes[id.0]
    }

    pub(super) fn add(&mut self, node: Node<'s>) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    pub(super) fn index(&mut self, id: NodeId, index: HashMap<Cow<'s, str>, usize>) {
        self.indices.insert(id.0, index);
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The entries of a mapping; none for any other value.
    pub(crate) fn entries(&self, id: NodeId) -> &[Entry<'s>] {
        match &self.node(id).content {
            Content::Mapping(entries) => entries,
            Content::Scalar(_) | Content::Sequence(_) => &[],
        }
    }

    /// The entry of `key`, if `id` is a mapping that has it.
    pub(crate) fn entry(&self, id: NodeId, key: &str) -> Option<&Entry<'s>> {
        match self.indices.get(&id.0) {
            Some(index) => index.get(key).map(|at| &self.entries(id)[*at]),
            None => self.entries(id).iter().find(|e| e.key == key),
        }
    }

    /// The item at `index`, if `id` is a sequence that has it.
    pub(crate) fn item(&self, id: NodeId, index: usize) -> Option<NodeId> {
        match &self.node(id).content {
            Content::Sequence(items) => items.get(index).copied(),
            Content::Scalar(_) | Content::Mapping(_) => None,
        }
    }

    /// The text of the scalar at `key`, if it is a string.
    pub(crate) fn string(&self, id: NodeId, key: &str) -> Option<&str> {
        match &self.node(self.entry(id, key)?.value).content {
            Content::Scalar(Scalar::String(text)) => Some(text),
            Content::Scalar(_) | Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// True if the value is null, or absent in the way that YAML writes it.
    pub(crate) fn is_null(&self, id: NodeId) -> bool {
        matches!(self.node(id).content, Content::Scalar(Scalar::Null))
    }
}
