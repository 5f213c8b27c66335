//! Walls on the length of functions and files, with a ratchet for what is over them already.

use std::collections::BTreeMap;

use anyhow::Context as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{Offence, Tree};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;

/// Offenders that are known; a number here may only become smaller.
const RATCHET: &str = "xtask/ratchet.toml";

/// A file of tables says so in its first lines.
const CATALOGUE_MARK: &str = "// tidy: catalogue";

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) -> anyhow::Result<()> {
    let mut ratchet = read_ratchet(tree)?;
    for (file, text) in tree.rust() {
        if text
            .lines()
            .take(40)
            .any(|line| line.trim() == CATALOGUE_MARK)
        {
            continue;
        }
        let lines = text.lines().count();
        measure(
            &file.path,
            &file.path,
            1,
            lines,
            FILE_LINES_MAX,
            &mut ratchet,
            offences,
        );
        for function in functions(text) {
            let key = format!("{}::{}", file.path, function.name);
            let Function { line, lines, .. } = function;
            measure(
                &key,
                &file.path,
                line,
                lines,
                FUNCTION_LINES_MAX,
                &mut ratchet,
                offences,
            );
        }
    }
    for key in ratchet.into_keys() {
        offences.push(Offence::new(
            RATCHET,
            1,
            format!("`{key}` is within its wall: drop the row"),
        ));
    }
    Ok(())
}

/// Rows `"path" = lines` or `"path::function" = lines`.
fn read_ratchet(tree: &Tree) -> anyhow::Result<BTreeMap<String, usize>> {
    toml::from_str(tree.text(RATCHET).unwrap_or_default()).with_context(|| RATCHET.to_owned())
}

fn measure(
    key: &str,
    path: &str,
    line: usize,
    lines: usize,
    wall: usize,
    ratchet: &mut BTreeMap<String, usize>,
    offences: &mut Vec<Offence>,
) {
    if lines <= wall {
        return;
    }
    let allowed = ratchet.remove(key).unwrap_or(wall);
    if lines > allowed {
        let name = key
            .strip_prefix(path)
            .map_or(key, |rest| rest.trim_start_matches(':'));
        let message = format!("{name}: {lines} lines; at most {allowed}");
        offences.push(Offence::new(path, line, message.trim_start_matches(": ")));
    }
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Every function with a body, measured from `fn` to its last brace; comments above don't count.
fn functions(text: &str) -> Vec<Function> {
    let mut finder = Finder::default();
    if let Ok(file) = syn::parse_file(text) {
        finder.visit_file(&file);
    }
    finder.found
}

#[derive(Default)]
struct Finder {
    found: Vec<Function>,
}

impl Finder {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.span().start().line;
        let last = body.brace_token.span.close().end().line;
        let name = signature.ident.to_string();
        self.found.push(Function {
            name,
            line: first,
            lines: last + 1 - first,
        });
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn a_function_is_measured_from_its_name_to_its_last_brace() {
        let found = functions("/// Words.\nfn a()\n{\n    b();\n}\nimpl T {\n    fn b() {}\n}\n");
        let sizes: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(sizes, [("a", 2, 4), ("b", 7, 1)]);
    }
}
