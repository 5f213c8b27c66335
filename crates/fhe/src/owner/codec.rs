//! The secret key as bytes, under its own magic so that no other reader takes it by mistake.

use zeroize::Zeroizing;

use super::SecretKey;
use crate::codec::{self, CodecError, Kind};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;

/// Ternary coefficients in one byte.
const PER_BYTE: usize = 4;

impl SecretKey {
    /// The key's id and its ternary coefficients, two bits each.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut content = Zeroizing::new(self.key_id.0.to_vec());
        content.reserve_exact(self.coefficients.len() / PER_BYTE);
        for chunk in self.coefficients.chunks_exact(PER_BYTE) {
            let fields = chunk.iter().enumerate();
            content.push(fields.fold(0, |byte, (i, &c)| byte | ((c + 1) as u8) << (2 * i)));
        }
        Zeroizing::new(codec::seal(Kind::SecretKey, self.digest, &content))
    }

    /// Reads [`SecretKey::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = codec::open(bytes, Kind::SecretKey, context.digest())?;
        let key_id = KeyId(reader.array()?);
        let n = context.parameters().n();
        let packed = reader.take(n / PER_BYTE)?;
        reader.finish()?;
        let mut coefficients = Zeroizing::new(vec![0i8; n]);
        let mut invalid = 0;
        for (chunk, byte) in coefficients.chunks_exact_mut(PER_BYTE).zip(packed) {
            for (i, coefficient) in chunk.iter_mut().enumerate() {
                let field = byte >> (2 * i) & 3;
                invalid |= u64::from(field == 3);
                *coefficient = field as i8 - 1;
            }
        }
        if invalid != 0 {
            return Err(CodecError::BadField {
                what: "ternary coefficient",
                found: 3,
            }
            .into());
        }
        Ok(Self::from_coefficients(context, key_id, coefficients))
    }
}
