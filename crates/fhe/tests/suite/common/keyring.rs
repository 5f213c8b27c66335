//! Contexts with keys from fixed seeds.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, Kernel};

/// A generator with a fixed seed.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Everything that a test of homomorphic operations needs: both roles in one hand.
pub(crate) struct Keyring {
    /// Parameters and tables.
    pub(crate) context: Arc<Context>,
    /// Encoder.
    pub(crate) encoder: Encoder,
    /// Evaluator.
    pub(crate) evaluator: Evaluator,
    /// Secret key.
    pub(crate) secret: SecretKey,
    /// Evaluation keys.
    pub(crate) keys: EvaluationKeys,
}

impl Keyring {
    /// Keys for `spec`: relinearisation and the given rotation steps, all at the highest level.
    pub(crate) fn new(spec: ParameterSpec, steps: &[usize]) -> Self {
        Self::with_kernel(spec, steps, Kernel::detect())
    }

    /// As [`Keyring::new`], on a given kernel.
    pub(crate) fn with_kernel(spec: ParameterSpec, steps: &[usize], kernel: Kernel) -> Self {
        let parameters = Parameters::new(spec).expect("the test's parameters are secure");
        let level = parameters.max_level();
        let manifest = KeyManifest {
            relinearization: Some(level),
            rotations: steps.iter().map(|&step| (step, level)).collect(),
            public: true,
            ..KeyManifest::default()
        };
        Self::with_manifest(parameters, &manifest, kernel)
    }

    /// Keys of a manifest.
    pub(crate) fn with_manifest(
        parameters: Parameters,
        manifest: &KeyManifest,
        kernel: Kernel,
    ) -> Self {
        let context = Context::with_kernel(parameters, kernel).expect("parameters are checked");
        let mut rng = rng(7);
        let secret = SecretKey::generate(&context, &mut rng);
        let generator = KeyGenerator::new(&context, &secret).expect("same context");
        let keys = generator
            .evaluation_keys(manifest, &mut rng)
            .expect("a valid manifest");
        let (encoder, evaluator) = (Encoder::new(&context), Evaluator::new(&context));
        Self {
            context,
            encoder,
            evaluator,
            secret,
            keys,
        }
    }

    /// A fresh secret-key ciphertext of `values`.
    pub(crate) fn encrypt(
        &self,
        values: &[f64],
        level: usize,
        scale: f64,
        seed: u64,
    ) -> Ciphertext {
        let plain = self
            .encoder
            .encode(values, level, scale)
            .expect("values in range");
        let encryptor = Encryptor::new(&self.context, &self.secret).expect("same context");
        let seeded = encryptor
            .encrypt(&plain, &mut rng(seed))
            .expect("same context");
        seeded.expand(&self.context).expect("same context")
    }

    /// Decrypted and decoded slots.
    pub(crate) fn decrypt(&self, ciphertext: &Ciphertext) -> Vec<f64> {
        let decryptor = Decryptor::new(&self.context, &self.secret).expect("same context");
        let plain = decryptor.decrypt(ciphertext).expect("own ciphertext");
        self.encoder.decode(&plain).expect("same context")
    }
}
