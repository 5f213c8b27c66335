//! One binary, `scuro`: verbs only.

fn main() {}
