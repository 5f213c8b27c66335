//! A bound on the fields of a file, counted before it is decoded.
//!
//! An empty node takes two bytes in the file and a hundred times that in memory, so a limit on
//! bytes alone does not bound what decoding takes.

use prost::encoding::decode_varint;

use crate::error::{Error, Result};

/// Most fields of the model, its graph, its nodes and its declarations together.
const FIELDS_MAX: usize = 1 << 20;

/// Refuses a file with more than [`FIELDS_MAX`] fields. What is malformed is left to the decoder.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let mut budget = FIELDS_MAX;
    match count(bytes, Place::Model, &mut budget) {
        Some(()) => Ok(()),
        None if budget == 0 => Err(Error::TooManyFields { limit: FIELDS_MAX }),
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Place {
    Model,
    Graph,
    /// A node, or the declaration of an input or output.
    Detail,
}

/// Takes one from `budget` per field; `None` if it is spent or the bytes are malformed.
fn count(mut bytes: &[u8], place: Place, budget: &mut usize) -> Option<()> {
    while !bytes.is_empty() {
        *budget = budget.saturating_sub(1);
        if *budget == 0 {
            return None;
        }
        let key = decode_varint(&mut bytes).ok()?;
        let inside = match key & 7 {
            0 => {
                decode_varint(&mut bytes).ok()?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = bytes.split_at_checked(inside)?;
        bytes = rest;
        match (place, key >> 3, key & 7) {
            (Place::Model, 7, 2) => count(field, Place::Graph, budget)?,
            (Place::Graph, 1 | 11 | 12, 2) => count(field, Place::Detail, budget)?,
            // What lies deeper takes memory in proportion to its bytes.
            _ => {}
        }
    }
    Some(())
}
