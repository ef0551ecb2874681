//! see next
