//! Graph to program: ordered passes, one file each.
