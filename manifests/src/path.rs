//! The path of a field, built on the stack while walking down and written out
//! only when there is something to say about it.

use std::fmt;

/// One step of a path; the steps above it are borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    segment: Segment<'p>,
}

/// One word of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment<'p> {
    Root,
    /// A field, or several joined with dots: `spec.template`.
    Field(&'p str),
    /// An entry of a map, whose key may hold anything.
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The object itself.
    pub(crate) const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// The field `name`, or `a.b` for a field of a field.
    pub(crate) fn field(&'p self, name: &'p str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(name) }
    }

    /// The entry `key` of a map.
    pub(crate) fn key(&'p self, key: &'p str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key) }
    }

    /// The item `index` of a list.
    pub(crate) fn index(&'p self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The path without its last step.
    pub(crate) fn parent(&self) -> Option<&'p Path<'p>> {
        self.parent
    }

    /// The steps from the root, fields split at their dots.
    pub(crate) fn segments(&self) -> Vec<Segment<'p>> {
        let mut segments = self.parent.map(Path::segments).unwrap_or_default();
        match self.segment {
            Segment::Root => {}
            Segment::Field(names) => segments.extend(names.split('.').map(Segment::Field)),
            Segment::Key(_) | Segment::Index(_) => segments.push(self.segment),
        }
        segments
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent_is_root = self.parent.is_none_or(|p| matches!(p.segment, Segment::Root));
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if parent_is_root => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Key(key) => write!(f, "[{key}]"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}
