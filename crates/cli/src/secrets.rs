//! Randomness for keys and ciphertexts, and files of signing keys.

use std::path::Path;

use scuro_runtime::random::Generator;
use scuro_wire::WireError;
use zeroize::Zeroizing;

use crate::errors::Failure;
use crate::files::{self, Access, Overwrite};

/// A generator fit for keys.
pub(crate) fn generator() -> Result<Generator, Failure> {
    Ok(Generator::new()?)
}

/// The bytes of a key's file, which is made if it is not there: nobody else may read it.
pub(crate) fn key_file(
    path: &Path,
    generate: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, WireError>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !path.exists() {
        let bytes = generate()?;
        files::write_with(path, &bytes, Overwrite::Refuse, Access::Secret)?;
    }
    scuro_wire::tls::check_mode(path)?;
    files::read_secret(path)
}
