//! Folders and files that nobody but their owner may enter or read.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder, and those above it that are missing, with mode 0700. One that is there already
/// keeps its mode: whoever made it decided.
///
/// # Errors
/// Whatever the system says.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file for appending; one that is not there is made with mode 0600.
///
/// # Errors
/// Whatever the system says.
pub fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).open(path)
}
