//! The edge device as a whole: real connections, a real broker, real kills.

mod crash;
mod deployment;
mod end_to_end;
mod mqtt;
mod rate;
mod rotation;
mod sources;
mod spool;
mod support;
