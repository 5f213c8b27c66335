//! Writes valid inputs for every target to `corpus/`, so that fuzzing starts behind the first
//! checks.

use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::{Bundle, BundleKind};
use scuro_ensemble::{HeldOut, Rules};
use scuro_fhe::ckks::Encoder;
use scuro_fhe::codec;
use scuro_fhe::compact::Compaction;
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::owner::{self, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::{bfv, bgv};
use scuro_fuzz::{CONTEXT, EXACT, EXACT_REAL, INVARIANT};
use scuro_program::{
    Diagonal, Estimate, Flood, Flooding, GaloisStep, Gather, InputSpec, KeyManifest as ProgramKeys,
    Linear, Operation, OutputSpec, Packing, ParameterPlan, PostOperation, Program, Ring, Scheme,
    SecurityTable, SlotAddress, SlotVector, Step, ValueId, Weights,
};
use scuro_server::edge::frame::Content;
use scuro_wire::inference::{Inference, InferenceBatch, Timings};
use scuro_wire::manifest::{Decryptor, EncryptedScope};
use scuro_wire::mask::{HolderKey, MaskSecrets, Member, Offer, Release, Subject};
use scuro_wire::predict::{Answered, LeftOut, PredictQuery, PredictReply, Question};
use scuro_wire::query::{QueryBatch, QueryRegistration};
use scuro_wire::roster::Roster;
use scuro_wire::user::UserKey;
use scuro_wire::{
    Artefact, Digest, HolderId, KeyId, Manifest, Name, Nonce, QueryId, Role, UserId,
};

/// Slots of the sample program.
const SLOTS: usize = 1 << 11;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    stored()?;
    images()?;
    frames()?;
    safetensors()?;
    program()?;
    wire()?;
    ensemble()?;
    rules()?;
    fhe()
}

/// Files that other tools wrote.
fn stored() -> Outcome {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for folder in std::fs::read_dir(seeds)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(folder.path())? {
            let file = file?;
            let (target, name) = (folder.file_name(), file.file_name());
            let bytes = std::fs::read(file.path())?;
            write(&target.to_string_lossy(), &name.to_string_lossy(), &bytes)?;
        }
    }
    Ok(())
}

/// Rules of two holders and two classes, and of none that was fitted.
fn rules() -> Outcome {
    let names = |prefix: &str| (1..=2).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let scores = |turn: usize| (0..12).map(|i| vec![(i + turn) as f64, 3.0]).collect();
    let labels = (0..12).map(|i| usize::from(i < 4)).collect();
    let held_out = HeldOut::new((0..2).map(scores).collect(), labels)?;
    let fitted = Rules::fitted(names("holder-"), names("class "), &held_out)?;
    write("rules", "fitted", &fitted.to_bytes())?;
    let plain = Rules::new(names("holder-"), names("class "))?;
    write("rules", "plain", &plain.to_bytes())?;
    Ok(())
}

/// JSON frames in all three forms, a stream of them, raw frames, and records of the spool.
fn frames() -> Outcome {
    let json = [
        r#"{"id":"a","pixels":[0,1,2,255]}"#,
        r#"{"values":[0.5,-1,2e3,0]}"#,
        r#"{"id":"b","raw":"AAEC/w=="}"#,
    ];
    for (number, text) in json.iter().enumerate() {
        write("frame", &format!("json-{number}"), text.as_bytes())?;
    }
    write("frame", "lines", json.join("\n").as_bytes())?;
    write("frame", "raw", &[0, 1, 2, 255])?;
    let record = Content::Values(vec![0.5, -1.0, 2e3, 0.0]).to_record();
    write("frame", "record", &record[..record.len() - 8])?;
    Ok(())
}

/// Two images of three by two pixels, two labels, and two records of CIFAR-10.
fn images() -> Outcome {
    let header = |magic: u32, extents: &[u32]| -> Vec<u8> {
        [&[magic], extents]
            .concat()
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect()
    };
    write(
        "idx",
        "images",
        &[header(0x0803, &[2, 3, 2]), (0..12).collect()].concat(),
    )?;
    write(
        "idx",
        "labels",
        &[header(0x0801, &[2]), vec![3, 9]].concat(),
    )?;
    let record = |label: u8| [vec![label], vec![label; 3 * 32 * 32]].concat();
    write("cifar10", "batch", &[record(1), record(9)].concat())?;
    Ok(())
}

/// A dense layer in an architecture file, a zero byte, and its weights.
fn safetensors() -> Outcome {
    let architecture = r#"{"name": "tiny", "input": [4], "layers": [
        {"op": "dense", "weight": "w", "bias": "b"}, {"op": "square"}]}"#;
    let header = r#"{"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[32,40]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let parts = [
        architecture.as_bytes(),
        &[0],
        &length,
        header.as_bytes(),
        &[0; 40],
    ];
    write("safetensors", "dense", &parts.concat())?;
    Ok(())
}

/// What services say to each other.
fn wire() -> Outcome {
    let digest = Digest([7; 32]);
    let query_id = QueryId([1; 16]);
    let artefact = |role| Artefact {
        role,
        bytes: 3,
        digest,
    };
    let manifest = Manifest {
        name: Name::new("digits")?,
        version: 1,
        artefacts: Role::ALL.map(artefact).to_vec(),
        parameters: digest,
        key_id: KeyId([2; 16]),
        created: 1,
        expires: 2,
        labels: vec!["zero".to_string()],
        encrypted: EncryptedScope::Last,
        decryptor: Decryptor::ModelOwner,
    };
    write("manifest", "small", &manifest.to_bytes())?;
    let query = QueryRegistration {
        query_id,
        deployment: digest,
        query_digest: digest,
    };
    let queries = vec![query; 2];
    write(
        "queries",
        "two",
        &serde_json::to_vec(&QueryBatch { queries })?,
    )?;
    let inference = Inference {
        query_id,
        deployment: digest,
        query_digest: digest,
        image: 0,
        timings: Timings::default(),
        reply: vec![1, 2, 3],
    };
    let inferences = vec![inference; 2];
    let frame = InferenceBatch { inferences }.to_bytes();
    write("inferences", "two", &scuro_fuzz::without_digest(&frame))?;
    Ok(())
}

/// A signed query to an ensemble, and an answer.
fn ensemble() -> Outcome {
    let digest = Digest([7; 32]);
    let user = UserKey::from_bytes(&UserKey::generate()?)?;
    let question = Question {
        id: QueryId([1; 16]),
        key_id: KeyId([2; 16]),
        parameters: digest,
        rule: Some(Name::new("mean")?),
        keys: digest,
        user: user.id(),
        nonce: Nonce([3; 16]),
        time_ms: 4,
    };
    let reply = PredictReply {
        id: question.id,
        face: digest,
        rule: question.rule.clone(),
        answered: vec![Answered {
            holder: "alpha".to_string(),
            place: 0,
            took_us: 5,
        }],
        left_out: vec![LeftOut {
            holder: "beta".to_string(),
            code: "holder.timeout".to_string(),
            message: "no answer in time".to_string(),
        }],
        timings: Default::default(),
        bundle: vec![1, 2, 3].into(),
    };
    let query = PredictQuery::sign(question, vec![1, 2, 3].into(), &user);
    for (name, (head, body)) in [("query", query.to_bytes()), ("reply", reply.to_bytes())] {
        write("predict", name, &[&body[..head], &[0], &body[head..]].concat())?;
    }
    masks(digest, user.id())
}

/// A roster of two, what the first of them offers, and a release of both.
fn masks(digest: Digest, user: UserId) -> Outcome {
    let identity = HolderKey::from_bytes(&HolderKey::generate()?)?;
    let (first, second) = (Name::new("alpha")?, Name::new("beta")?);
    let entry = |name: &Name, key| {
        format!("[[holder]]\nname = \"{name}\"\nkey = \"{key}\"\nweight = 2\n")
    };
    let file = entry(&first, identity.id()) + &entry(&second, HolderId([5; 32]));
    write("roster", "two", file.as_bytes())?;
    let roster = Roster::from_toml(file.as_bytes())?;
    let subject = Subject {
        face: digest,
        query: digest,
        roster: roster.digest(),
    };
    let (_, keys) = MaskSecrets::draw(&roster, 0)?;
    let offer = Offer::sign(&subject, first, 2, keys, &identity);
    write("masks", "offer", &offer.to_bytes())?;
    let other = Offer {
        holder: second,
        ..offer.clone()
    };
    let release = Release {
        user,
        nonce: Nonce([3; 16]),
        query: digest,
        members: vec![Member::of(&offer, 2), Member::of(&other, 2)],
    };
    write("masks", "release", &release.to_bytes())?;
    Ok(())
}

fn program() -> Outcome {
    let program = sample();
    program.validate()?;
    write(
        "program",
        "tiny",
        &scuro_fuzz::without_digest(&program.to_bytes()),
    )?;
    Ok(())
}

/// One dense layer and a square.
fn sample() -> Program {
    let galois = [1, 8].map(|step| GaloisStep { step, level: 1 });
    let addresses = vec![SlotAddress {
        ciphertext: 0,
        slot: 3,
    }];
    Program {
        name: "tiny".into(),
        model_digest: [7; 32],
        notes: vec![("labels".into(), "0,1".into())],
        parameters: ParameterPlan {
            scheme: Scheme::Ckks,
            ring: Ring::ConjugateInvariant,
            log_n: 11,
            q_bits: vec![18, 17],
            p_bits: vec![18],
            security_bits: 128,
            table: SecurityTable::Guideline2024,
        },
        packing: Packing::SingleImage,
        weights: Weights::Plain,
        input: InputSpec {
            shape: vec![2],
            examples: 1,
            gather: Gather::Slots(vec![(0..SLOTS as u32).map(|slot| slot % 2).collect()]),
            level: 1,
            traced: None,
            scale_log2: 10.0,
            minimum: 0.0,
            maximum: 1.0,
        },
        steps: steps(),
        result: ValueId(6),
        output: OutputSpec {
            shape: vec![1],
            addresses,
            factor: 1.0,
            post: PostOperation::Softmax { axis: 0 },
        },
        keys: ProgramKeys {
            relinearize: Some(1),
            galois: galois.to_vec(),
            relinearized: Vec::new(),
            public: true,
        },
    }
}

fn steps() -> Vec<Step> {
    let flood = Flood {
        flooding: Flooding::Statistical { bits: 40 },
        bound_log2: 20.0,
    };
    let diagonal = Diagonal {
        output: 0,
        operand: 0,
        ciphertext: 0,
        giant: 8,
        baby: 1,
        values: SlotVector::from_dense(&[&vec![0.5; 40][..], &vec![0.0; SLOTS - 40]].concat()),
    };
    let linear = Linear {
        outputs: 1,
        weight_scale_log2: 10.0,
        diagonals: vec![diagonal],
    };
    let step = |input, operation, level| Step {
        layer: "dense".into(),
        inputs: vec![ValueId(input)],
        operation,
        estimate: Estimate {
            level,
            scale_log2: 20.0,
            ..Estimate::default()
        },
    };
    vec![
        step(0, Operation::Linear(linear), 1),
        step(1, Operation::Square, 1),
        step(2, Operation::Relinearize, 1),
        step(3, Operation::Rescale, 0),
        step(
            4,
            Operation::Fold {
                stages: vec![vec![1]],
            },
            0,
        ),
        step(5, Operation::Flood(flood), 0),
    ]
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
    // That of `scuro_fuzz::SECRET`, so that decryption is reached.
    let secret = SecretKey::generate(context, &mut rng);
    let generator = KeyGenerator::new(context, &secret)?;
    let rotations = [(1, 0)].into();
    let manifest = KeyManifest {
        relinearization: Some(0),
        rotations,
        conjugation: None,
        ..KeyManifest::default()
    };
    let plain = Encoder::new(context).encode(&[0.5, -1.0], 0, 4096.0)?;
    let seeded = Encryptor::new(context, &secret)?.encrypt(&plain, &mut rng)?;
    let whole = seeded.expand(context)?;
    let compact = whole.compact(context, Compaction::new(4, 24))?;
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
        ("ciphertext", whole.to_bytes(context)),
        ("seeded_ciphertext", seeded.to_bytes(context)),
        ("secret_key", secret.to_bytes().to_vec()),
        ("compact_ciphertext", compact.to_bytes()),
    ];
    let bundle = Bundle {
        kind: BundleKind::Query,
        program: [7; 32],
        images: 1,
        group: 1,
        ciphertexts: vec![seeded.to_bytes(context)],
    };
    write(
        "bundle",
        "query",
        &scuro_fuzz::without_digest(&bundle.to_bytes()),
    )?;
    objects
        .iter()
        .try_for_each(|(name, bytes)| write_object(name, bytes))?;
    exact()
}

/// Ciphertexts of integers, of both rings and both schemes.
fn exact() -> Outcome {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    for (name, context) in [("exact", &*EXACT), ("exact_real", &*EXACT_REAL)] {
        let secret = SecretKey::generate(context.context(), &mut rng);
        let plain = bgv::Encoder::new(context).encode(&[1, -2, 3], 0)?;
        let seeded = owner::bgv::Encryptor::new(context, &secret)?.encrypt(&plain, &mut rng)?;
        let whole = seeded.expand(context)?;
        write_object(&format!("{name}_ciphertext"), &whole.to_bytes(context))?;
        let compact = whole.compact(context, Compaction::new(16, 30))?;
        write_object(&format!("{name}_compact_ciphertext"), &compact.to_bytes())?;
        write_object(
            &format!("{name}_seeded_ciphertext"),
            &seeded.to_bytes(context),
        )?;
        write_object(
            &format!("{name}_short_ciphertext"),
            &seeded.leaving_out(context, 3)?.to_bytes(context),
        )?;
    }
    let context = &*INVARIANT;
    let secret = SecretKey::generate(context.context(), &mut rng);
    let plain = bfv::Encoder::new(context).encode(&[1, -2, 3])?;
    let seeded = owner::bfv::Encryptor::new(context, &secret)?.encrypt(&plain, 0, &mut rng)?;
    let full = seeded.expand(context)?.to_bytes(context);
    write_object("invariant_ciphertext", &full)?;
    write_object("invariant_seeded_ciphertext", &seeded.to_bytes(context))?;
    Ok(())
}

fn write_object(name: &str, bytes: &[u8]) -> std::io::Result<()> {
    write("fhe_file", name, bytes)?;
    write("fhe_object", name, &scuro_fuzz::fhe_object_input(bytes))
}
