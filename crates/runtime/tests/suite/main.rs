//! Programs on ciphertexts, on simulated ones and in clear, through the public interface only.

mod batch;
mod common;
mod compact;
mod ensemble;
mod integers;
mod replies;
mod rotations;
mod single_image;
