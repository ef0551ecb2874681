//! The structure of every kind, from the schemas that come with its types.

mod check;
mod compile;

pub(crate) use check::Checker;
pub(crate) use compile::{for_configuration, for_objects};

use crate::kind::Kind;

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Any,
    String,
    /// Base64.
    Bytes,
    /// RFC 3339.
    Time,
    Boolean,
    /// Within these bounds, both included.
    Integer(i128, i128),
    Number,
    IntOrString,
    Quantity,
    List(Box<Shape>),
    Map(Box<Shape>),
    /// Index of a [`Definition`].
    Object(usize),
}

/// The fields of one type.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    /// The type's name without its package, `PodSpec`: for the test of the table of support.
    #[cfg(test)]
    pub(crate) name: String,
    /// Sorted by name.
    pub(crate) fields: Vec<Field>,
}

/// One field of a type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) support: Support,
}

/// What Evenkeel makes of a field today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// What Kubernetes makes of it.
    Full,
    /// Nothing, for this reason.
    NoEffect(&'static str),
    /// The pod waits, for this reason.
    Waits(&'static str),
}

impl Definition {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok().map(|i| &self.fields[i])
    }
}

/// The compiled structure of a family of kinds.
#[derive(Debug)]
pub(crate) struct Shapes {
    definitions: Vec<Definition>,
    roots: Vec<(Kind, Shape)>,
}

impl Shapes {
    pub(crate) fn definition(&self, index: usize) -> &Definition {
        &self.definitions[index]
    }

    /// The structure of `kind`; of anything, if it is not of this family.
    pub(crate) fn root(&self, kind: Kind) -> &Shape {
        self.roots.iter().find(|(k, _)| *k == kind).map_or(&Shape::Any, |(_, shape)| shape)
    }

    /// The structure of a family that has one kind only.
    pub(crate) fn only(&self) -> &Shape {
        self.roots.first().map_or(&Shape::Any, |(_, shape)| shape)
    }
}
