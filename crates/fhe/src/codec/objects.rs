//! Ciphertexts and public keys as bytes.

use std::collections::BTreeMap;

use scuro_polyring::sampling::Seed;
use scuro_polyring::{Basis, Coeff, Ntt, Poly};

use super::{CodecError, Kind, ROTATION_KEYS_MAX, Reader, open, pack, packed_len, seal, unpack};
use crate::ckks::{Ciphertext, PARTS_MAX, SeededCiphertext, check_left_out, check_scale};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::{EvaluationKeys, GaloisKey, PublicKey};
use crate::rlwe::SwitchingKey;

impl Ciphertext {
    /// All parts, packed.
    pub fn to_bytes(&self, context: &Context) -> Vec<u8> {
        let mut content = ciphertext_head(self.key_id, self.level, self.scale);
        content.push(self.parts.len() as u8);
        self.parts
            .iter()
            .for_each(|part| write_poly(&mut content, context, part));
        seal(Kind::Ciphertext, self.digest, &content)
    }

    /// Reads [`Ciphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::LevelTooHigh`], [`Error::BadScale`].
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = open(bytes, Kind::Ciphertext, context.digest())?;
        let (key_id, level, scale) = read_ciphertext_head(&mut reader, context)?;
        let count = usize::from(reader.u8()?);
        if !(2..=PARTS_MAX).contains(&count) {
            return Err(CodecError::BadField {
                what: "part count",
                found: count as u64,
            }
            .into());
        }
        let read = |_| read_poly(&mut reader, context, context.basis(level));
        let parts: Vec<Poly<Ntt>> = (0..count).map(read).collect::<Result<_, _>>()?;
        reader.finish()?;
        if parts[1..]
            .iter()
            .all(|part| part.words().iter().all(|&word| word == 0))
        {
            return Err(CodecError::Transparent.into());
        }
        Ok(Self {
            parts,
            level,
            scale,
            key_id,
            digest: context.digest(),
        })
    }
}

impl SeededCiphertext {
    /// Body and seed, packed.
    pub fn to_bytes(&self, context: &Context) -> Vec<u8> {
        let mut content = ciphertext_head(self.key_id, self.level, self.scale);
        content.extend_from_slice(&self.seed);
        content.push(self.left_out as u8);
        match self.left_out {
            0 => write_poly(&mut content, context, &self.body),
            bits => write_rounded(&mut content, context, &self.body, bits),
        }
        seal(Kind::SeededCiphertext, self.digest, &content)
    }

    /// Reads [`SeededCiphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::LevelTooHigh`], [`Error::BadScale`].
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = open(bytes, Kind::SeededCiphertext, context.digest())?;
        let (key_id, level, scale) = read_ciphertext_head(&mut reader, context)?;
        let seed = reader.array()?;
        let left_out = u32::from(reader.u8()?);
        check_left_out(left_out)?;
        let body = match left_out {
            0 => read_poly(&mut reader, context, context.basis(level))?,
            bits => read_rounded(&mut reader, context, context.basis(level), bits)?,
        };
        reader.finish()?;
        Ok(Self {
            body,
            left_out,
            seed,
            level,
            scale,
            key_id,
            digest: context.digest(),
        })
    }
}

impl PublicKey {
    /// Body and seed, packed.
    pub fn to_bytes(&self, context: &Context) -> Vec<u8> {
        let mut content = self.key_id.0.to_vec();
        content.extend_from_slice(&self.seed);
        write_poly(&mut content, context, &self.body);
        seal(Kind::PublicKey, self.digest, &content)
    }

    /// Reads [`PublicKey::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = open(bytes, Kind::PublicKey, context.digest())?;
        let key_id = KeyId(reader.array()?);
        let key = read_public(&mut reader, context, key_id)?;
        reader.finish()?;
        Ok(key)
    }
}

/// Seed and body of a public key.
fn read_public(
    reader: &mut Reader<'_>,
    context: &Context,
    key_id: KeyId,
) -> Result<PublicKey, Error> {
    let seed: Seed = reader.array()?;
    let body = read_poly(reader, context, PublicKey::basis(context))?;
    Ok(PublicKey::from_body(context, key_id, seed, body))
}

impl EvaluationKeys {
    /// Every key as its seed and bodies, packed.
    pub fn to_bytes(&self, context: &Context) -> Vec<u8> {
        let mut content = self.key_id.0.to_vec();
        write_optional(&mut content, context, self.relinearization.as_ref());
        write_optional(
            &mut content,
            context,
            self.conjugation.as_ref().map(|key| &key.key),
        );
        content.extend_from_slice(&(self.rotations.len() as u32).to_le_bytes());
        for (&step, key) in &self.rotations {
            content.extend_from_slice(&(step as u32).to_le_bytes());
            write_key(&mut content, context, &key.key);
        }
        content.extend_from_slice(&(self.relinearized_rotations.len() as u32).to_le_bytes());
        for (&step, key) in &self.relinearized_rotations {
            content.extend_from_slice(&(step as u32).to_le_bytes());
            write_key(&mut content, context, key);
        }
        content.push(u8::from(self.public.is_some()));
        if let Some(key) = &self.public {
            content.extend_from_slice(&key.seed);
            write_poly(&mut content, context, &key.body);
        }
        seal(Kind::EvaluationKeys, self.digest, &content)
    }

    /// Reads [`EvaluationKeys::to_bytes`] and expands every seed.
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::LevelTooHigh`], [`Error::IndexOutOfRange`] for an impossible
    /// step.
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = open(bytes, Kind::EvaluationKeys, context.digest())?;
        let key_id = KeyId(reader.array()?);
        let relinearization = read_optional(&mut reader, context)?;
        let conjugation = match read_optional(&mut reader, context)? {
            None => None,
            Some(key) => Some(galois_key(
                context,
                key,
                context.ring().conjugation_element(),
            )?),
        };
        let mut rotations = BTreeMap::new();
        for (step, key) in read_stepped(&mut reader, context)? {
            let element = context.ring().rotation_element(step as i64);
            rotations.insert(step, galois_key(context, key, element)?);
        }
        let relinearized_rotations = read_stepped(&mut reader, context)?.into_iter().collect();
        let public = match read_flag(&mut reader)? {
            true => Some(read_public(&mut reader, context, key_id)?),
            false => None,
        };
        reader.finish()?;
        Ok(Self {
            key_id,
            digest: context.digest(),
            relinearization,
            rotations,
            conjugation,
            relinearized_rotations,
            public,
        })
    }
}

fn ciphertext_head(key_id: KeyId, level: usize, scale: f64) -> Vec<u8> {
    let mut content = key_id.0.to_vec();
    content.push(level as u8);
    content.extend_from_slice(&scale.to_bits().to_le_bytes());
    content
}

fn read_ciphertext_head(
    reader: &mut Reader<'_>,
    context: &Context,
) -> Result<(KeyId, usize, f64), Error> {
    let key_id = KeyId(reader.array()?);
    let level = usize::from(reader.u8()?);
    context.check_level(level)?;
    let scale = reader.scale()?;
    check_scale(scale, context, level)?;
    Ok((key_id, level, scale))
}

pub(crate) fn write_poly(out: &mut Vec<u8>, context: &Context, poly: &Poly<Ntt>) {
    for (i, row) in poly.rows() {
        pack(out, row, context.ring().prime(i).modulus().value());
    }
}

/// Checks that the input is long enough before it allocates.
pub(crate) fn read_poly(
    reader: &mut Reader<'_>,
    context: &Context,
    basis: Basis,
) -> Result<Poly<Ntt>, CodecError> {
    reader.require(packed_poly_len(context, &basis))?;
    let ring = context.ring();
    let mut poly = Poly::zero(ring, basis);
    for (limb, (i, row)) in poly.rows_mut().enumerate() {
        unpack(reader, row, ring.prime(i).modulus().value(), limb)?;
    }
    Ok(poly)
}

fn packed_poly_len(context: &Context, basis: &Basis) -> usize {
    let ring = context.ring();
    let row = |i: usize| packed_len(ring.degree(), ring.prime(i).modulus().value());
    basis.iter().map(row).sum()
}

/// The coefficients, without the lowest bits of their residues modulo the first prime.
fn write_rounded(out: &mut Vec<u8>, context: &Context, body: &Poly<Ntt>, bits: u32) {
    let body = body.clone().into_coeff(context.ring());
    for (limb, (i, row)) in body.rows().enumerate() {
        let modulus = context.ring().prime(i).modulus().value();
        let bits = if limb == 0 { bits } else { 0 };
        let kept: Vec<u64> = row.iter().map(|&residue| residue >> bits).collect();
        pack(out, &kept, shortened(modulus, bits));
    }
}

/// Reads [`write_rounded`]; checks that the input is long enough before it allocates.
fn read_rounded(
    reader: &mut Reader<'_>,
    context: &Context,
    basis: Basis,
    bits: u32,
) -> Result<Poly<Ntt>, CodecError> {
    let ring = context.ring();
    let left_out = ring.degree() / 8 * bits as usize;
    reader.require(packed_poly_len(context, &basis) - left_out)?;
    let mut body = Poly::<Coeff>::zero(ring, basis);
    for (limb, (i, row)) in body.rows_mut().enumerate() {
        let modulus = ring.prime(i).modulus().value();
        let bits = if limb == 0 { bits } else { 0 };
        unpack(reader, row, shortened(modulus, bits), limb)?;
        row.iter_mut().for_each(|residue| *residue <<= bits);
    }
    Ok(body.into_ntt(ring))
}

/// Number of the multiples of 2^bits below a modulus.
fn shortened(modulus: u64, bits: u32) -> u64 {
    ((modulus - 1) >> bits) + 1
}

fn write_optional(out: &mut Vec<u8>, context: &Context, key: Option<&SwitchingKey>) {
    out.push(u8::from(key.is_some()));
    if let Some(key) = key {
        write_key(out, context, key);
    }
}

fn write_key(out: &mut Vec<u8>, context: &Context, key: &SwitchingKey) {
    out.push(key.level as u8);
    out.extend_from_slice(&key.seed);
    key.bodies(context)
        .for_each(|body| write_poly(out, context, &body));
}

fn read_optional(
    reader: &mut Reader<'_>,
    context: &Context,
) -> Result<Option<SwitchingKey>, Error> {
    match read_flag(reader)? {
        true => read_key(reader, context).map(Some),
        false => Ok(None),
    }
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, CodecError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(CodecError::BadField {
            what: "key flag",
            found: found.into(),
        }),
    }
}

/// The number of digits follows from the level, so nothing but the level is trusted.
fn read_key(reader: &mut Reader<'_>, context: &Context) -> Result<SwitchingKey, Error> {
    let level = usize::from(reader.u8()?);
    context.check_level(level)?;
    let seed: Seed = reader.array()?;
    let (basis, count) = (
        context.extended_basis(level),
        context.parameters().digit_count(level),
    );
    reader.require(count * packed_poly_len(context, &basis))?;
    let parts = (0..count).map(|digit| {
        let body = read_poly(reader, context, basis.clone())?;
        Ok::<_, CodecError>([body, SwitchingKey::mask(context, &seed, level, digit)])
    });
    Ok(SwitchingKey::from_parts(context, seed, level, parts)?)
}

/// Keys with a rotation step each, ascending.
fn read_stepped(
    reader: &mut Reader<'_>,
    context: &Context,
) -> Result<Vec<(usize, SwitchingKey)>, Error> {
    let bound = context.parameters().slots();
    let count = reader.count("rotation keys", ROTATION_KEYS_MAX)?;
    let mut keys = Vec::new();
    let mut previous = 0;
    for _ in 0..count {
        let step = reader.count("rotation step", u32::MAX as usize)?;
        let what = "rotation step";
        if step >= bound {
            return Err(Error::IndexOutOfRange {
                what,
                found: step,
                bound,
            });
        }
        if step <= previous {
            return Err(CodecError::NotSorted {
                what,
                found: step as u64,
            }
            .into());
        }
        previous = step;
        keys.push((step, read_key(reader, context)?));
    }
    Ok(keys)
}

fn galois_key(context: &Context, key: SwitchingKey, element: u64) -> Result<GaloisKey, Error> {
    Ok(GaloisKey {
        key,
        permutation: context.ring().permutation(element)?,
    })
}
