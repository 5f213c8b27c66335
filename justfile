# Chores. Logic lives in xtask and .ci/run; this file only names it.

# format, lints, laws and fast tests, in about a minute
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy
    cargo test --workspace --lib

# every test
test:
    cargo test --workspace

# what CI runs, all of it
ci:
    .ci/run

# the main job
demo:
    cargo run --release -- demo

# every figure that we claim; one group with `just bench he`
bench *group:
    cargo run --release -- bench {{group}}

# the networks that `scuro bench gomez --models DIR` measures, an hour on two cores
bench-models dir:
    xtask/bench-models.sh {{dir}}

# laws of the house
tidy:
    cargo xtask tidy

# one fuzz target for some seconds: `just fuzz program 60`
fuzz target seconds="60":
    cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# licences, bans and sources of dependencies
deny:
    cargo deny --offline check licenses bans sources

# documentation of all crates
doc:
    cargo doc --workspace --no-deps --open

# install the binary
install:
    cargo install --path crates/cli
