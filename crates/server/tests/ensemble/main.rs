//! Holders, a coordinator and users: real connections, real programs, real kills.

mod bad_input;
mod crash;
mod encrypted_weights;
mod end_to_end;
mod masked;
mod masked_misbehaviour;
mod misbehaviour;
#[allow(
    dead_code,
    reason = "bundles and the device's name are for the edge's tests"
)]
#[path = "../edge/support/pki.rs"]
mod pki;
mod support;
mod votes;
