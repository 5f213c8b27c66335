//! Executes a program: backends clear, simulate and encrypted.
