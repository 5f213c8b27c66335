//! Development only: backend suites, vectors, tolerance and noise assertions.
