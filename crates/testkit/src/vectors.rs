//! Reads `vectors/`; its README.md describes the files.

use std::ops::Deref;
use std::path::PathBuf;

use serde_json::Value;

/// Bytes of one residue in a `.bin` file.
const RESIDUE_BYTES: usize = 5;

/// Residues as `[limb][coefficient]`.
pub type Limbs = Vec<Vec<u64>>;

/// A folder of ciphertexts under one key.
///
/// Reading panics on a damaged folder: a test that cannot read its vectors has failed.
pub struct CiphertextSet {
    folder: PathBuf,
    record: Value,
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Ciphertext primes.
    pub q: Vec<u64>,
    /// Special primes.
    pub p: Vec<u64>,
}

impl CiphertextSet {
    fn load(path: &str) -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors");
        let folder = PathBuf::from(root).join(path);
        let text = std::fs::read_to_string(folder.join("set.json")).expect("set.json is readable");
        let record: Value = serde_json::from_str(&text).expect("set.json is JSON");
        let log_n = number(&record["log_n"]) as u32;
        let (q, p) = (primes(&record["q"]), primes(&record["p"]));
        Self {
            folder,
            record,
            log_n,
            q,
            p,
        }
    }

    /// Coefficients of the secret: -1, 0 or 1.
    pub fn secret(&self) -> Vec<i8> {
        let text = std::fs::read_to_string(self.folder.join("secret.txt")).expect("secret.txt");
        let trit = |c| match c {
            '-' => -1,
            '0' => 0,
            '+' => 1,
            other => panic!("{other:?} in secret.txt"),
        };
        text.trim_end().chars().map(trit).collect()
    }

    /// The limbs of `<name>.bin`, parts outermost.
    pub fn limbs(&self, name: &str) -> Limbs {
        let path = self.folder.join(format!("{name}.bin"));
        let bytes = std::fs::read(&path).expect("the vector file is readable");
        assert_eq!(
            bytes.len() % (RESIDUE_BYTES << self.log_n),
            0,
            "whole limbs in {path:?}"
        );
        let residue = |chunk: &[u8]| {
            chunk
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        let words: Vec<u64> = bytes.chunks_exact(RESIDUE_BYTES).map(residue).collect();
        words
            .chunks_exact(1 << self.log_n)
            .map(<[u64]>::to_vec)
            .collect()
    }

    /// The parts of the ciphertext in `<name>.bin`, each with `limbs` limbs.
    pub fn parts(&self, name: &str, limbs: usize) -> Vec<Limbs> {
        self.limbs(name)
            .chunks_exact(limbs)
            .map(<[Vec<u64>]>::to_vec)
            .collect()
    }
}

/// One folder of `vectors/ckks`.
pub struct CkksSet {
    set: CiphertextSet,
    /// Scale of the fresh ciphertexts.
    pub scale: f64,
    /// Scale of the product after division by the last prime.
    pub rescaled_scale: f64,
}

impl Deref for CkksSet {
    type Target = CiphertextSet;

    fn deref(&self) -> &CiphertextSet {
        &self.set
    }
}

impl CkksSet {
    /// Reads `vectors/ckks/<name>`; `name` is `standard` or `real`.
    pub fn load(name: &str) -> Self {
        let set = CiphertextSet::load(&format!("ckks/{name}"));
        let scale = |key| number(&set.record[key]);
        let (scale, rescaled_scale) = (scale("scale"), scale("rescaled_scale"));
        Self {
            set,
            scale,
            rescaled_scale,
        }
    }

    /// The first slots, as `(real, imaginary)`, that the other implementation decrypts from a
    /// result.
    pub fn slots(&self, name: &str) -> Vec<(f64, f64)> {
        let rows = self.record["slots"][name]
            .as_array()
            .expect("slots are a list");
        rows.iter()
            .map(|pair| (number(&pair[0]), number(&pair[1])))
            .collect()
    }

    /// The values that `a` encrypts, exact; `imaginary` parts are meant for the standard ring.
    pub fn values_a(&self, slots: usize) -> Vec<(f64, f64)> {
        (0..slots)
            .map(|j| (sample(j, 37, 257, 11), sample(j, 91, 251, 11)))
            .collect()
    }

    /// The values that `b` encrypts.
    pub fn values_b(&self, slots: usize) -> Vec<(f64, f64)> {
        (0..slots)
            .map(|j| (sample(j, 53, 241, 7), sample(j, 107, 235, 7)))
            .collect()
    }
}

/// `vectors/bgv` or `vectors/bfv`.
pub struct ExactSet {
    set: CiphertextSet,
    /// Plaintext prime.
    pub t: u64,
    /// Step of the rotation.
    pub step: usize,
}

impl Deref for ExactSet {
    type Target = CiphertextSet;

    fn deref(&self) -> &CiphertextSet {
        &self.set
    }
}

impl ExactSet {
    /// Reads `vectors/<name>`.
    pub fn load(name: &str) -> Self {
        let set = CiphertextSet::load(name);
        let (t, step) = (number(&set.record["t"]), number(&set.record["step"]));
        Self {
            set,
            t: t as u64,
            step: step as usize,
        }
    }

    /// The first slots that the other implementation decrypts from a result.
    pub fn slots(&self, name: &str) -> Vec<i64> {
        let rows = self.record["slots"][name].as_array();
        let rows = rows.expect("slots are a list").iter();
        rows.map(|slot| number(slot) as i64).collect()
    }

    /// j^2 stride + j shift + 5 for every slot j, modulo t.
    pub fn values(&self, stride: i64, shift: i64) -> Vec<i64> {
        let value = |j: i64| self.centred(j * j * stride + j * shift + 5);
        (0..1 << self.log_n).map(value).collect()
    }

    /// x modulo t in (-t/2, t/2).
    pub fn centred(&self, x: i64) -> i64 {
        let residue = x.rem_euclid(self.t as i64);
        residue
            - if residue > self.t as i64 / 2 {
                self.t as i64
            } else {
                0
            }
    }
}

fn sample(slot: usize, stride: usize, modulus: usize, shift: usize) -> f64 {
    let residue = (slot * stride + shift) % modulus;
    (residue as f64 - (modulus / 2) as f64) / 128.0
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number in set.json")
}

fn primes(value: &Value) -> Vec<u64> {
    let rows = value.as_array().expect("primes are a list");
    rows.iter()
        .map(|prime| prime.as_u64().expect("a prime is a whole number"))
        .collect()
}
