//! Which nodes the answer needs, in an order in which each comes after its operands.

use std::collections::HashMap;

use super::proto::GraphProto;
use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Positions of the nodes that the outputs depend on, operands first.
///
/// Depth first without recursion: a chain of nodes as long as the file must not exhaust the stack.
pub(super) fn topological(graph: &GraphProto) -> Result<Vec<usize>> {
    let makers = makers(graph)?;
    let mut marks = vec![Mark::New; graph.node.len()];
    let mut order = Vec::new();
    let outputs = graph
        .output
        .iter()
        .filter_map(|output| makers.get(output.name.as_str()));
    for &start in outputs {
        let mut path = vec![(start, 0)];
        while let Some((position, next)) = path.pop() {
            if next == 0 && marks[position] == Mark::Done {
                continue;
            }
            marks[position] = Mark::Open;
            let node = &graph.node[position];
            let Some(operand) = node.input.get(next) else {
                marks[position] = Mark::Done;
                order.push(position);
                continue;
            };
            path.push((position, next + 1));
            match makers.get(operand.as_str()) {
                Some(&maker) if marks[maker] == Mark::Open => {
                    return Err(Error::Cycle {
                        node: node.name.clone(),
                    });
                }
                Some(&maker) if marks[maker] == Mark::New => path.push((maker, 0)),
                _ => {}
            }
        }
    }
    Ok(order)
}

fn makers(graph: &GraphProto) -> Result<HashMap<&str, usize>> {
    let mut makers = HashMap::new();
    for (position, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if makers.insert(name.as_str(), position).is_some() {
                return Err(Error::DefinedTwice { name: name.clone() });
            }
        }
    }
    Ok(makers)
}
