//! Secrets at rest: AES-256-GCM under the vault key.
//!
//! A sealed secret is nonce (96 random bits), ciphertext and tag; its additional data is the id
//! under which it is stored (`model/NAME/VERSION/KEY-ID`), so that one cannot be put in the place
//! of another. The vault key comes from a file of mode 0600, or from a passphrase by Argon2id.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use scuro_wire::tls::check_mode;
use zeroize::Zeroizing;

use crate::error::VaultError;

/// Fewest characters of a passphrase.
pub const PASSPHRASE_CHARACTERS: usize = 12;
/// Bytes of salt.
pub const SALT_BYTES: usize = 16;
/// Most bytes of a key or passphrase file.
const KEY_FILE_BYTES: u64 = 4096;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// RFC 9106, second recommendation, on one lane: 64 MiB, three passes.
const ARGON2_MEMORY_KIB: u32 = 64 << 10;
const ARGON2_PASSES: u32 = 3;

/// Where the vault key comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that `scuro vault init` or `rekey` made.
    File(PathBuf),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl KeySource {
    /// Name of the kind, as stored in the vault.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "key file",
            Self::Passphrase(_) => "passphrase",
        }
    }

    /// Reads a passphrase from a file of mode 0600; the line feed at its end does not count.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`], [`VaultError::Passphrase`].
    pub fn passphrase_file(path: &Path) -> Result<Self, VaultError> {
        let text = read_secret(path)?;
        let end = text.trim_end_matches(['\r', '\n']).len();
        Self::passphrase(&text[..end])
    }

    /// Takes a passphrase.
    ///
    /// # Errors
    /// [`VaultError::Passphrase`] if it is too short.
    pub fn passphrase(text: &str) -> Result<Self, VaultError> {
        let found = text.chars().count();
        if found < PASSPHRASE_CHARACTERS {
            let expected = PASSPHRASE_CHARACTERS;
            return Err(VaultError::Passphrase { found, expected });
        }
        Ok(Self::Passphrase(Zeroizing::new(text.to_string())))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "KeySource({})", path.display()),
            Self::Passphrase(_) => out.write_str("KeySource(passphrase, redacted)"),
        }
    }
}

/// The key that every secret rests under. Not `Clone`, redacted, zeroised.
pub(crate) struct VaultKey(Zeroizing<[u8; KEY_BYTES]>);

impl VaultKey {
    /// The key of `source`; `salt` counts for passphrases only.
    pub(crate) fn derive(source: &KeySource, salt: &[u8]) -> Result<Self, VaultError> {
        match source {
            KeySource::File(path) => Self::read(path),
            KeySource::Passphrase(text) => Self::from_passphrase(text, salt),
        }
    }

    /// A fresh key in a new file of mode 0600, on disk before this returns.
    pub(crate) fn create(path: &Path) -> Result<Self, VaultError> {
        let key = Self(Zeroizing::new(random()?));
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        for byte in key.0.iter() {
            fmt::Write::write_fmt(&mut *text, format_args!("{byte:02x}")).map_err(|_| {
                VaultError::Crypto {
                    what: "writing a key",
                }
            })?;
        }
        text.push('\n');
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| VaultError::file("write", path, error))?;
        Ok(key)
    }

    fn read(path: &Path) -> Result<Self, VaultError> {
        let text = read_secret(path)?;
        let digits = text.trim_end_matches(['\r', '\n']);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let wrong = || VaultError::KeyFile {
            path: path.to_path_buf(),
            message: format!("not a vault key: {} hexadecimal digits", 2 * KEY_BYTES),
        };
        if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (i, byte) in key.iter_mut().enumerate() {
            let pair = &digits[2 * i..2 * i + 2];
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(key))
    }

    fn from_passphrase(text: &str, salt: &[u8]) -> Result<Self, VaultError> {
        let fail = |_| VaultError::Crypto { what: "Argon2id" };
        let cost = argon2::Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, 1, Some(KEY_BYTES));
        let function = argon2::Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            cost.map_err(fail)?,
        );
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        function
            .hash_password_into(text.as_bytes(), salt, &mut *key)
            .map_err(fail)?;
        Ok(Self(key))
    }

    /// Seals `secret` for the place `id`.
    pub(crate) fn seal(&self, id: &str, secret: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        // The content is encrypted in place: one allocation, so no copy of it stays behind.
        let mut content = Vec::with_capacity(secret.len() + TAG_BYTES);
        content.extend_from_slice(secret);
        self.aead()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.as_bytes()),
                &mut content,
            )
            .map_err(|_| VaultError::Crypto { what: "sealing" })?;
        Ok([&nonce[..], &content].concat())
    }

    /// Opens what was sealed for the place `id`.
    pub(crate) fn open(&self, id: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let damaged = || VaultError::Sealed { id: id.to_string() };
        let (nonce, content) = sealed.split_first_chunk().ok_or_else(damaged)?;
        let mut content = Zeroizing::new(content.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .aead()?
            .open_in_place(nonce, Aad::from(id.as_bytes()), &mut content)
            .map_err(|_| damaged())?
            .len();
        content.truncate(opened);
        Ok(content)
    }

    fn aead(&self) -> Result<LessSafeKey, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.0);
        key.map(LessSafeKey::new)
            .map_err(|_| VaultError::Crypto { what: "AES-256" })
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("VaultKey(redacted)")
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| VaultError::Crypto {
            what: "system randomness",
        })?;
    Ok(bytes)
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let refuse = |message: String| VaultError::KeyFile {
        path: path.to_path_buf(),
        message,
    };
    check_mode(path)?;
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    // Reserved at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES as usize + 1));
    file.take(KEY_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| refuse(error.to_string()))?;
    if text.len() as u64 > KEY_FILE_BYTES {
        return Err(refuse(format!("more than {KEY_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key() -> VaultKey {
        VaultKey(Zeroizing::new([7; KEY_BYTES]))
    }

    #[test]
    fn a_secret_opens_only_in_its_place_under_its_key_and_unchanged() {
        let sealed = key().seal("model/a/1/x", b"the secret").expect("sealed");
        let opened = key().open("model/a/1/x", &sealed).expect("opened");
        assert_eq!(&opened[..], b"the secret");
        assert!(key().open("model/a/2/x", &sealed).is_err());
        let other = VaultKey(Zeroizing::new([8; KEY_BYTES]));
        assert!(other.open("model/a/1/x", &sealed).is_err());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(key().open("model/a/1/x", &changed).is_err(), "byte {place}");
        }
        assert!(key().open("model/a/1/x", &sealed[..5]).is_err());
        let again = key().seal("model/a/1/x", b"the secret").expect("sealed");
        assert_ne!(sealed, again, "a nonce is used once");
    }

    #[test]
    fn a_key_file_is_private_and_read_back() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("vault.key");
        let made = VaultKey::create(&path).expect("made");
        let read = VaultKey::derive(&KeySource::File(path.clone()), &[]).expect("read");
        assert!(made.0 == read.0);
        assert!(VaultKey::create(&path).is_err(), "never replaced");
        let open_to_all = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open_to_all).expect("mode");
        let found = VaultKey::derive(&KeySource::File(path), &[]);
        assert!(found.is_err_and(|error| error.to_string().contains("mode 644")));
    }

    #[test]
    fn a_passphrase_gives_one_key_a_salt_and_no_short_one_is_taken() {
        let source = KeySource::passphrase("correct horse battery").expect("long enough");
        let derive = |salt: &[u8]| VaultKey::derive(&source, salt).expect("a key");
        assert!(derive(&[1; 16]).0 == derive(&[1; 16]).0);
        assert!(derive(&[1; 16]).0 != derive(&[2; 16]).0);
        assert!(KeySource::passphrase("too short").is_err());
        assert!(!format!("{source:?}").contains("horse"));
    }
}
