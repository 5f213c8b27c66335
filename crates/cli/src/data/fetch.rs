//! Downloads from the official mirrors; nothing is kept whose checksum is wrong.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::data::catalog::{DataSet, Package, SetFile};
use crate::errors::{Exit, Failure};
use crate::progress::Progress;

/// Largest download accepted; the CIFAR-10 archive has 162 MiB.
const DOWNLOAD_LIMIT: u64 = 256 << 20;
/// Largest unpacked archive accepted.
const ARCHIVE_LIMIT: u64 = 512 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(900);

/// Fetches every file of `set` into `folder`.
pub(crate) fn fetch(
    context: &Context,
    set: &DataSet,
    mirror: Option<&str>,
    folder: &Path,
) -> Result<(), Failure> {
    let mirrors: Vec<&str> = mirror.map_or_else(|| set.mirrors.to_vec(), |given| vec![given]);
    let mut last = Failure::internal("no mirror is listed");
    for mirror in mirrors {
        context.note(format!("fetching {} from {mirror}", set.name));
        match fetch_from(context, set, mirror, folder) {
            Err(failure) if failure.exit == Exit::Connection || failure.exit == Exit::Timeout => {
                context.note(format!("  {failure}"));
                last = failure;
            }
            done => return done,
        }
    }
    Err(last)
}

fn fetch_from(
    context: &Context,
    set: &DataSet,
    mirror: &str,
    folder: &Path,
) -> Result<(), Failure> {
    match set.package {
        Package::Files => set.files.iter().try_for_each(|file| {
            let bytes = download(context, &format!("{mirror}/{}", file.name), file.name)?;
            store(file, &bytes, folder)
        }),
        Package::TarGz(archive) => {
            let packed = download(context, &format!("{mirror}/{archive}"), archive)?;
            unpack(&packed, set, folder)
        }
    }
}

fn download(context: &Context, url: &str, name: &str) -> Result<Vec<u8>, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(TOTAL_TIMEOUT))
        .build()
        .into();
    let response = agent
        .get(url)
        .call()
        .map_err(|error| connection(url, &error))?;
    let length = response
        .headers()
        .get("content-length")
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let progress = Progress::bar(context, name, length.unwrap_or(0));
    let mut reader = response.into_body().into_reader().take(DOWNLOAD_LIMIT + 1);
    let mut bytes = Vec::new();
    let mut chunk = vec![0u8; 64 << 10];
    loop {
        let count = reader
            .read(&mut chunk)
            .map_err(|error| interrupted(url, &error))?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
        progress.advance(count);
    }
    if bytes.len() as u64 > DOWNLOAD_LIMIT {
        let message = format!("{url} is larger than {DOWNLOAD_LIMIT} bytes");
        return Err(Failure::new(Exit::Refused, "data.too-large", message));
    }
    Ok(bytes)
}

fn connection(url: &str, error: &ureq::Error) -> Failure {
    let (exit, code) = match error {
        ureq::Error::Timeout(_) => (Exit::Timeout, "data.timeout"),
        _ => (Exit::Connection, "data.connection"),
    };
    Failure::new(exit, code, format!("cannot fetch {url}: {error}")).hint(
        "without a network put the files in a folder and pass --data-dir or set SCURO_DATA, \
         or use --data generated",
    )
}

fn interrupted(url: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Connection,
        "data.interrupted",
        format!("{url} broke off: {error}"),
    )
    .hint("run it again; nothing half-written was left")
}

fn store(file: &SetFile, bytes: &[u8], folder: &Path) -> Result<(), Failure> {
    let digest = Sha256::digest(bytes);
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if found != file.sha256 {
        let message = format!("{}: SHA-256 {found}, expected {}", file.name, file.sha256);
        return Err(Failure::new(Exit::Refused, "data.checksum", message)
            .hint("the mirror handed out something else; try another --mirror"));
    }
    crate::files::write(&folder.join(file.name), bytes)
}

fn unpack(packed: &[u8], set: &DataSet, folder: &Path) -> Result<(), Failure> {
    let broken = |what: String| Failure::new(Exit::Refused, "data.archive", what);
    let mut tar = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed).take(ARCHIVE_LIMIT);
    reader
        .read_to_end(&mut tar)
        .map_err(|error| broken(format!("not gzip: {error}")))?;
    for file in set.files {
        let bytes = tar_member(&tar, file.name)
            .ok_or_else(|| broken(format!("{} is not in the archive", file.name)))?;
        store(file, bytes, folder)?;
    }
    Ok(())
}

/// The bytes of the first member whose last path component is `name`.
fn tar_member<'a>(tar: &'a [u8], name: &str) -> Option<&'a [u8]> {
    const BLOCK: usize = 512;
    let mut offset = 0usize;
    loop {
        let header = tar.get(offset..offset.checked_add(BLOCK)?)?;
        let text = |range: std::ops::Range<usize>| {
            let field = std::str::from_utf8(&header[range]).ok()?;
            Some(field.trim_matches(['\0', ' ']).to_string())
        };
        let size = usize::from_str_radix(&text(124..136)?, 8).ok()?;
        let start = offset + BLOCK;
        let body = tar.get(start..start.checked_add(size)?)?;
        if text(0..100)?.rsplit('/').next() == Some(name) {
            return Some(body);
        }
        offset = start.checked_add(size.checked_next_multiple_of(BLOCK)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, body: &[u8]) -> Vec<u8> {
        let mut block = vec![0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}", body.len());
        block[124..135].copy_from_slice(size.as_bytes());
        block.extend_from_slice(body);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }

    #[test]
    fn members_are_found_behind_others() {
        let tar = [member("a/readme", b"hello"), member("a/x.bin", &[7; 600])].concat();
        assert_eq!(tar_member(&tar, "x.bin"), Some(&[7u8; 600][..]));
        assert_eq!(tar_member(&tar, "y.bin"), None);
    }

    #[test]
    fn a_truncated_archive_is_no_panic() {
        let tar = member("a/x.bin", &[7; 600]);
        assert_eq!(tar_member(&tar[..700], "x.bin"), None);
        assert_eq!(tar_member(&tar[..100], "x.bin"), None);
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = &crate::data::catalog::SETS[0].files[0];
        let failure = store(file, b"not the data", folder.path()).expect_err("refused");
        assert_eq!(
            (failure.exit, failure.code.as_str()),
            (Exit::Refused, "data.checksum")
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
    }
}
