//! Programs on ciphertexts, on simulated ones and in clear, through the public interface only.

mod batch;
mod common;
mod ensemble;
mod integers;
mod replies;
mod single_image;
