//! A table of nftables that has one chain.

use crate::services::tag;
use crate::sys::nfnetlink::{Batch, Socket};
use crate::sys::nft::{self, Expression, Hook, Table};
use std::io;

/// The chain as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Vec<Expression>>,
}

/// The table has exactly this chain; one without rules means no table. What is right is not touched. Returns whether
/// it was not so.
///
/// # Errors
/// The kernel's.
pub(crate) fn ensure(socket: &mut Socket, table: Table<'_>, chain: &Chain) -> io::Result<bool> {
    let is_there = nft::has_table(socket, table)?;
    if !is_there && chain.rules.is_empty() {
        return Ok(false);
    }
    let tags: Vec<_> = chain.rules.iter().map(|rule| tag(rule)).collect();
    if is_there && !chain.rules.is_empty() {
        let listed = nft::list_structure(socket, table)?;
        if listed.chains.len() == 1 && listed.chains.get(chain.name) == Some(&(true, tags.clone())) {
            return Ok(false);
        }
    }
    let mut batch = Batch::default();
    // It has to be there to be deleted.
    table.add(&mut batch);
    table.delete(&mut batch);
    if !chain.rules.is_empty() {
        table.add(&mut batch);
        table.add_chain(&mut batch, chain.name, Some(chain.hook));
        for (rule, tag) in chain.rules.iter().zip(&tags) {
            table.add_rule(&mut batch, chain.name, rule, tag);
        }
    }
    socket.commit(batch)?;
    Ok(true)
}
