//! Rules on Rust tokens: where `unsafe` may stand, and what a crate may not name.

use proc_macro2::{Ident, TokenStream, TokenTree};

use super::dependencies::PURE;
use super::{File, Offence, Tree};

/// The only folder with `unsafe` code.
const UNSAFE_FOLDER: &str = "crates/polyring/src/kernel/";

/// Names of clocks, sockets and global random generators.
const IMPURE_NAMES: &[&str] = &[
    "Instant",
    "OsRng",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "ThreadRng",
    "UdpSocket",
    "getrandom",
    "thread_rng",
];

/// Random generators alone: training reads a clock for its progress line, never for its result.
const GLOBAL_RANDOM_NAMES: &[&str] = &["OsRng", "ThreadRng", "getrandom", "thread_rng"];

/// Names of `scuro-fhe` that could lead to a secret key.
const KEY_HOLDER_NAMES: &[&str] = &["Decryptor", "KeyGenerator", "SecretKey", "owner"];

/// What the client's crate has for the holder of a secret key. Its `Client` cannot be made without.
const KEY_SET_NAMES: &[&str] = &["KeySet"];

/// The compiler plans; it never holds a ciphertext.
const CIPHERTEXT_NAMES: &[&str] = &["Ciphertext", "Evaluator", "owner"];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for (file, text) in tree.rust() {
        let Ok(tokens) = text.parse::<TokenStream>() else {
            offences.push(Offence::new(&file.path, 1, "is not Rust"));
            continue;
        };
        crate_has_a_header(file, text, offences);
        unsafe_stays_in_the_kernels(file, &tokens, offences);
        if !file.is_test() {
            forbidden_names(file, &tokens, offences);
        }
    }
}

fn crate_has_a_header(file: &File, text: &str, offences: &mut Vec<Offence>) {
    let is_crate_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if is_crate_root && !text.starts_with("//!") {
        offences.push(Offence::new(
            &file.path,
            1,
            "crate has no header documentation",
        ));
    }
}

fn unsafe_stays_in_the_kernels(file: &File, tokens: &TokenStream, offences: &mut Vec<Offence>) {
    if file.path.starts_with(UNSAFE_FOLDER) {
        return;
    }
    each_ident(tokens.clone(), &mut |ident| {
        if ident == "unsafe" {
            let message = format!("`unsafe` outside {UNSAFE_FOLDER}");
            offences.push(Offence::new(&file.path, ident.span().start().line, message));
        }
    });
}

fn forbidden_names(file: &File, tokens: &TokenStream, offences: &mut Vec<Offence>) {
    let Some(name) = file.crate_name() else {
        return;
    };
    let mut forbidden: Vec<(&str, &str)> = Vec::new();
    let mut add = |names: &[&'static str], law| forbidden.extend(names.iter().map(|n| (*n, law)));
    if PURE.contains(&name) {
        add(
            IMPURE_NAMES,
            "clocks, sockets and global randomness are arguments here",
        );
    }
    match name {
        "train" => add(
            GLOBAL_RANDOM_NAMES,
            "the random generator is an argument here",
        ),
        "runtime" => add(KEY_HOLDER_NAMES, "the evaluator cannot name a secret key"),
        "server" => {
            add(KEY_HOLDER_NAMES, "a server cannot name a secret key");
            add(KEY_SET_NAMES, "a server cannot make keys");
        }
        "compiler" => add(CIPHERTEXT_NAMES, "the compiler touches no ciphertext"),
        _ => {}
    }
    each_ident(without_tests(tokens.clone()), &mut |ident| {
        for (_, law) in forbidden.iter().filter(|(name, _)| ident == name) {
            let message = format!("`{ident}`: {law}");
            offences.push(Offence::new(&file.path, ident.span().start().line, message));
        }
    });
}

fn each_ident(tokens: TokenStream, visit: &mut impl FnMut(&Ident)) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => visit(&ident),
            TokenTree::Group(group) => each_ident(group.stream(), visit),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Drops each item behind `#[cfg(test)]`: up to its braces or its semicolon.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut dropping = false;
    for token in tokens {
        let text = token.to_string();
        if dropping {
            let braces = matches!(&token, TokenTree::Group(_)) && text.starts_with('{');
            dropping = !braces && text != ";";
        } else if text.replace(' ', "") == "[cfg(test)]" {
            dropping = true;
        } else {
            kept.push(token);
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{each_ident, without_tests};

    #[test]
    fn items_of_tests_are_dropped() {
        let code = "fn a() {} #[cfg(test)] mod tests { use owner; } #[cfg(test)] mod t; fn b() {}";
        let mut names = Vec::new();
        let tokens = code.parse().expect("the sample is Rust");
        each_ident(without_tests(tokens), &mut |ident| {
            names.push(ident.to_string())
        });
        assert_eq!(names, ["fn", "a", "fn", "b"]);
    }
}
