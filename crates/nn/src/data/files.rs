//! Reading whole files under a size limit, unpacking by content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::error::{Error, Result};

/// Most memory that unpacking an `.xz` file may take, in KiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// The bytes of `path`, at most `limit`.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    read_all(path, file, limit)
}

/// The bytes of `path`, unpacked if they are gzip or xz, at most `limit` before and after.
pub(crate) fn read_unpacked(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let stored = read_limited(path, limit)?;
    match stored.as_slice() {
        [0x1f, 0x8b, ..] => read_all(path, MultiGzDecoder::new(stored.as_slice()), limit),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => read_all(
            path,
            XzReader::new_mem_limit(stored.as_slice(), true, XZ_MEMORY_KIB),
            limit,
        ),
        _ => Ok(stored),
    }
}

fn read_all(path: &Path, reader: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(Error::FileTooLarge {
            path: path.to_path_buf(),
            limit,
        });
    }
    Ok(bytes)
}
