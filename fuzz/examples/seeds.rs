//! Writes valid inputs for every target to `corpus/`, so that fuzzing starts behind the first checks.

use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::ckks::Encoder;
use scuro_fhe::codec;
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::owner::{Encryptor, KeyGenerator, SecretKey};
use scuro_fuzz::CONTEXT;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    fhe()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

fn fhe() -> Outcome {
    let context = &*CONTEXT;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(context, &mut rng);
    let generator = KeyGenerator::new(context, &secret)?;
    let rotations = [(1, 0)].into();
    let manifest = KeyManifest {
        relinearization: Some(0),
        rotations,
        conjugation: None,
    };
    let plain = Encoder::new(context).encode(&[0.5, -1.0], 0, 4096.0)?;
    let seeded = Encryptor::new(context, &secret)?.encrypt(&plain, &mut rng)?;
    let objects = [
        ("parameters", codec::encode_parameters(context.parameters())),
        (
            "public_key",
            generator.public_key(&mut rng).to_bytes(context),
        ),
        (
            "evaluation_keys",
            generator
                .evaluation_keys(&manifest, &mut rng)?
                .to_bytes(context),
        ),
        ("ciphertext", seeded.expand(context)?.to_bytes(context)),
        ("seeded_ciphertext", seeded.to_bytes(context)),
        ("secret_key", secret.to_bytes().to_vec()),
    ];
    for (name, bytes) in objects {
        write("fhe_file", name, &bytes)?;
        write("fhe_object", name, &scuro_fuzz::fhe_object_input(&bytes))?;
    }
    Ok(())
}
