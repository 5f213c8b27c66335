//! What each fuzz target does with its bytes.
//!
//! A parser may refuse; it must not panic, hang or allocate without bound, and what it accepts it
//! must write back as the same bytes where the format is canonical. Formats that end in a checksum
//! get it here, so that mutants reach the parser behind it.

use std::num::NonZeroU8;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::Bundle;
use scuro_ensemble::{RuleKind, Rules};
use scuro_fhe::bfv::{self, BfvContext};
use scuro_fhe::bgv::{self, BgvContext};
use scuro_fhe::ckks::{Ciphertext, CompactCiphertext, SeededCiphertext};
use scuro_fhe::codec::{self, CHECKSUM_BYTES, HEADER_BYTES};
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use scuro_fhe::owner::{Decryptor, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, RingKind};
use scuro_nn::data::{self, digit_photo, picture};
use scuro_nn::graph::Graph;
use scuro_nn::{export, import};
use scuro_program::Program;
use scuro_server::edge::frame::{Content, Form, Layout, from_json, from_raw, read};
use scuro_server::edge::sources::{StreamFormat, next_item};
use scuro_wire::inference::InferenceBatch;
use scuro_wire::mask::{Member, Offer, Release, Subject};
use scuro_wire::predict::{PredictQuery, PredictReply};
use scuro_wire::query::{QueryBatch, WithdrawalBatch};
use scuro_wire::roster::{Roster, RosterEntry};
use scuro_wire::{HolderId, Manifest};

/// Bytes of the digest that ends a program or a bundle.
const DIGEST_BYTES: usize = 32;
/// Bytes of the checksum that ends a record of the spool.
const RECORD_CHECKSUM: usize = 8;
/// Place of the kind in the header of a cryptographic object.
const KIND_AT: usize = 6;
/// Place of the digest in the same header.
const DIGEST_AT: usize = 10;

/// Which parameters an object is of.
#[derive(Clone, Copy)]
enum Owner {
    Approximate,
    Exact,
    ExactReal,
}

impl Owner {
    fn digest(self) -> [u8; 32] {
        match self {
            Self::Approximate => CONTEXT.digest().0,
            Self::Exact => EXACT.digest().0,
            Self::ExactReal => EXACT_REAL.digest().0,
        }
    }
}

/// Kinds of cryptographic objects: parameters, public key, evaluation keys, ciphertext, seeded
/// ciphertext, exact ciphertext and exact seeded ciphertext of both rings, secret key, compact
/// ciphertext, exact compact ciphertext of both rings.
const KINDS: [(u8, Owner); 13] = [
    (1, Owner::Approximate),
    (2, Owner::Approximate),
    (3, Owner::Approximate),
    (4, Owner::Approximate),
    (5, Owner::Approximate),
    (6, Owner::Exact),
    (7, Owner::Exact),
    (6, Owner::ExactReal),
    (7, Owner::ExactReal),
    (64, Owner::Approximate),
    (8, Owner::Approximate),
    (9, Owner::Exact),
    (9, Owner::ExactReal),
];

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order of the alphabet.
pub const TARGETS: &[Target] = &[
    ("bundle", bundle),
    ("cifar10", cifar10),
    ("fhe_file", fhe_file),
    ("fhe_object", fhe_object),
    ("frame", frame),
    ("idx", idx),
    ("inferences", inferences),
    ("keras_h5", keras_h5),
    ("keras_zip", keras_zip),
    ("manifest", manifest),
    ("masks", masks),
    ("onnx", onnx),
    ("picture", picture),
    ("predict", predict),
    ("program", program),
    ("queries", queries),
    ("roster", roster),
    ("rules", rules),
    ("safetensors", safetensors),
];

/// The smallest secure set, so that objects are small.
pub static CONTEXT: LazyLock<Arc<Context>> = LazyLock::new(|| {
    let parameters = Parameters::new(ParameterSpec::new(11, &[27], &[26])).expect("it is secure");
    Context::new(parameters).expect("it is usable")
});

/// The key of every seed of numbers.
pub static SECRET: LazyLock<SecretKey> =
    LazyLock::new(|| SecretKey::generate(&CONTEXT, &mut ChaCha20Rng::seed_from_u64(1)));

/// The same for exact integers, over the standard ring.
pub static EXACT: LazyLock<Arc<BgvContext>> = LazyLock::new(|| {
    let mut spec = ParameterSpec::new(11, &[27], &[26]);
    spec.ring = RingKind::Standard;
    let parameters = Parameters::new(spec).expect("it is secure");
    let context = Context::new(parameters).expect("it is usable");
    BgvContext::new(&context, 12_289).expect("12289 = 3·4096 + 1 is prime")
});

/// Exact integers over the conjugate-invariant ring.
pub static EXACT_REAL: LazyLock<Arc<BgvContext>> =
    LazyLock::new(|| BgvContext::new(&CONTEXT, 40_961).expect("40961 = 5·8192 + 1 is prime"));

/// The scale-invariant face of the former.
pub static INVARIANT: LazyLock<Arc<BfvContext>> =
    LazyLock::new(|| BfvContext::new(&EXACT).expect("there are auxiliary primes"));

/// Bytes of a file that claims to hold a key, a ciphertext or parameters.
pub fn fhe_file(bytes: &[u8]) {
    let context = &*CONTEXT;
    let described = codec::describe(bytes).is_ok();
    let same = |again: Vec<u8>| {
        assert!(described, "what is read can be described");
        assert_eq!(again, bytes, "an object has one encoding");
    };
    if let Ok(parameters) = codec::decode_parameters(bytes) {
        same(codec::encode_parameters(&parameters));
    }
    if let Ok(key) = PublicKey::from_bytes(bytes, context) {
        same(key.to_bytes(context));
    }
    if let Ok(keys) = EvaluationKeys::from_bytes(bytes, context) {
        same(keys.to_bytes(context));
    }
    if let Ok(ciphertext) = Ciphertext::from_bytes(bytes, context) {
        same(ciphertext.to_bytes(context));
    }
    if let Ok(ciphertext) = SeededCiphertext::from_bytes(bytes, context) {
        same(ciphertext.to_bytes(context));
    }
    if let Ok(ciphertext) = CompactCiphertext::from_bytes(bytes, context) {
        same(ciphertext.to_bytes());
        let decryptor = Decryptor::new(context, &SECRET).expect("keys of these parameters");
        // Under another key, or as slots: no bytes make decryption panic.
        let _ = decryptor.decrypt_compact(&ciphertext);
    }
    for context in [&*EXACT, &*EXACT_REAL] {
        if let Ok(ciphertext) = bgv::CompactCiphertext::from_bytes(bytes, context) {
            same(ciphertext.to_bytes());
        }
        if let Ok(ciphertext) = bgv::Ciphertext::from_bytes(bytes, context) {
            same(ciphertext.to_bytes(context));
        }
        if let Ok(ciphertext) = bgv::SeededCiphertext::from_bytes(bytes, context) {
            same(ciphertext.to_bytes(context));
        }
    }
    if let Ok(ciphertext) = bfv::Ciphertext::from_bytes(bytes, &INVARIANT) {
        same(ciphertext.to_bytes(&INVARIANT));
    }
    if let Ok(ciphertext) = bfv::SeededCiphertext::from_bytes(bytes, &INVARIANT) {
        same(ciphertext.to_bytes(&INVARIANT));
    }
    if let Ok(key) = SecretKey::from_bytes(bytes, context) {
        same(key.to_bytes().to_vec());
    }
}

/// A kind and the content of an object, which gets a right header and checksum.
pub fn fhe_object(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else {
        return;
    };
    let (kind, owner) = KINDS[usize::from(*kind) % KINDS.len()];
    let magic = if kind == 64 {
        codec::SECRET_MAGIC
    } else {
        codec::MAGIC
    };
    let mut object = magic.to_vec();
    object.extend_from_slice(&[kind, 0]);
    object.extend_from_slice(&codec::VERSION.to_le_bytes());
    object.extend_from_slice(&owner.digest());
    object.extend_from_slice(&(content.len() as u64).to_le_bytes());
    object.extend_from_slice(content);
    let checksum = blake3::hash(&object);
    object.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    fhe_file(&object);
}

/// What [`fhe_object`] takes of a whole object.
pub fn fhe_object_input(object: &[u8]) -> Vec<u8> {
    let kind = KINDS
        .iter()
        .position(|(kind, owner)| {
            *kind == object[KIND_AT] && object[DIGEST_AT..].starts_with(&owner.digest())
        })
        .expect("a known kind and owner");
    let content = &object[HEADER_BYTES..object.len() - CHECKSUM_BYTES];
    [&[kind as u8], content].concat()
}

/// A query or a reply without its digest.
pub fn bundle(body: &[u8]) {
    let bytes = with_digest(body);
    if let Ok(bundle) = Bundle::from_bytes(&bytes) {
        assert_eq!(bundle.to_bytes(), bytes, "a bundle has one encoding");
    }
}

/// A frame of a data stream in every form, and the spool's record of one without its checksum.
pub fn frame(bytes: &[u8]) {
    let layout = Layout { image: [1, 2, 2] };
    let survives = |content: Content| {
        let record = content.to_record();
        // Not `==`: the record may hold NaN, which a frame from outside may not.
        let again = Content::from_record(&record).expect("a record is read");
        assert_eq!(again.to_record(), record, "a record has one encoding");
    };
    if let Ok((_, content)) = from_json(bytes, layout) {
        survives(content);
    }
    if let Ok(content) = from_raw(bytes, layout) {
        survives(content);
    }
    unknown_form(bytes, layout);
    unknown_form(bytes, Layout { image: [1, 10, 10] });
    let digest = blake3::hash(bytes);
    let record = [bytes, &digest.as_bytes()[..RECORD_CHECKSUM]].concat();
    if let Ok(content) = Content::from_record(&record) {
        assert_eq!(content.to_record(), record, "a record has one encoding");
    }
    for format in [StreamFormat::JsonLines, StreamFormat::Raw] {
        let mut stream = bytes;
        let items = std::iter::from_fn(|| next_item(&mut stream, format, layout)).count();
        assert!(items <= bytes.len(), "every item takes bytes");
    }
}

/// What is JSON or a picture is read as that if nobody says so, and never as raw; what is read at
/// all is read as in the form that it has.
fn unknown_form(bytes: &[u8], layout: Layout) {
    let as_form = |form| read(bytes, form, layout).map(|(_, content)| content);
    let found = as_form(Form::Unknown);
    let [picture, json, raw] = [Form::Picture, Form::Json, Form::Raw].map(as_form);
    match (&picture, &json) {
        (Ok(_), _) => assert_eq!(found, picture),
        (_, Ok(_)) => assert_eq!(found, json),
        _ if found.is_ok() => assert_eq!(found, raw),
        _ => {}
    }
}

/// A compiled program without its digest.
pub fn program(body: &[u8]) {
    let bytes = with_digest(body);
    if let Ok(program) = Program::from_bytes(&bytes) {
        assert_eq!(program.to_bytes(), bytes, "a program has one encoding");
    }
}

/// A frame of encrypted inferences without its digest.
pub fn inferences(body: &[u8]) {
    let bytes = with_digest(body);
    if let Ok(batch) = InferenceBatch::from_bytes(&bytes) {
        assert_eq!(batch.to_bytes(), bytes, "a frame has one encoding");
    }
}

/// A manifest of a protected model.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_bytes(bytes) {
        assert_eq!(manifest.to_bytes(), bytes, "a manifest has one encoding");
    }
}

/// A batch of query registrations, or of withdrawals.
pub fn queries(bytes: &[u8]) {
    if let Ok(batch) = QueryBatch::from_bytes(bytes) {
        assert!(!batch.queries.is_empty(), "an empty batch is refused");
    }
    if let Ok(batch) = WithdrawalBatch::from_bytes(bytes) {
        assert!(!batch.queries.is_empty(), "an empty batch is refused");
    }
}

/// The rules of an ensemble: what is read can be written and read again, and applied.
pub fn rules(bytes: &[u8]) {
    let Ok(rules) = Rules::from_bytes(bytes) else {
        return;
    };
    let again = Rules::from_bytes(&rules.to_bytes()).expect("what was written is read");
    assert_eq!(again, rules, "writing changes nothing");
    let holders = rules.holders().len();
    let predictions = vec![vec![0.5; rules.classes().len()]; holders];
    for rule in RuleKind::ALL.into_iter().filter_map(|kind| rules.rule(kind).ok()) {
        let combined = rule.combine(&predictions).expect("the rule is for these holders");
        assert_eq!(combined.len(), rules.classes().len());
        if let Ok(alone) = rule.restricted(&[0], holders) {
            alone.combine(&predictions[..1]).expect("one holder is enough");
        }
    }
}

fn with_digest(body: &[u8]) -> Vec<u8> {
    [body, blake3::hash(body).as_bytes()].concat()
}

/// What [`program`], [`bundle`] and [`inferences`] take of a whole file.
pub fn without_digest(file: &[u8]) -> Vec<u8> {
    file[..file.len() - DIGEST_BYTES].to_vec()
}

/// A PNG or JPEG, and the digit in it.
pub fn picture(bytes: &[u8]) {
    if let Ok(picture) = picture::decode(bytes) {
        assert_eq!(
            picture.pixels.len(),
            picture.shape.iter().product::<usize>()
        );
        // Refusing a picture without a digit is fine; the result has a fixed size.
        if let Ok(digit) = digit_photo::normalise(&picture) {
            assert_eq!(digit.len(), 28 * 28);
        }
    }
}

/// An idx file, plain or packed, read as images and as labels.
pub fn idx(bytes: &[u8]) {
    with_file("idx", bytes, |path| {
        if let Ok((shape, pixels)) = data::read_idx_images(path) {
            assert_eq!(pixels.len() % shape.iter().product::<usize>(), 0);
        }
        if let Ok(labels) = data::read_idx_labels(path, 10) {
            assert!(labels.iter().all(|label| *label < 10));
        }
    });
}

/// The head of a query to an ensemble or of its answer, a zero byte, and the tensor: what is read
/// is written again as the same content.
pub fn predict(bytes: &[u8]) {
    let zero = bytes.iter().position(|byte| *byte == 0);
    let length = zero.unwrap_or(bytes.len());
    let tensor = bytes.get(length + 1..).unwrap_or_default();
    let body = [&bytes[..length], tensor].concat().into();
    let head = length.to_string();
    if let Ok(query) = PredictQuery::from_bytes(Some(&head), &body) {
        let (head, body) = query.to_bytes();
        let again = PredictQuery::from_bytes(Some(&head.to_string()), &body);
        assert_eq!(again, Ok(query));
    }
    if let Ok(reply) = PredictReply::from_bytes(Some(&head), &body) {
        let (head, body) = reply.to_bytes();
        let again = PredictReply::from_bytes(Some(&head.to_string()), &body);
        assert_eq!(again, Ok(reply));
    }
}

/// Messages about masks: an offer, or a release, which is checked by a roster of its first holders.
pub fn masks(bytes: &[u8]) {
    if let Ok(offer) = Offer::from_bytes(bytes) {
        assert_eq!(Offer::from_bytes(&offer.to_bytes()), Ok(offer));
    }
    let Ok(release) = Release::from_bytes(bytes) else {
        return;
    };
    assert_eq!(Release::from_bytes(&release.to_bytes()).as_ref(), Ok(&release));
    let entry = |(number, member): (usize, &Member)| RosterEntry {
        name: member.holder.clone(),
        key: HolderId([number as u8; 32]),
        weight: NonZeroU8::new(member.weight).unwrap_or(NonZeroU8::MIN),
    };
    let Ok(roster) = Roster::new(release.members.iter().enumerate().map(entry).collect()) else {
        return;
    };
    let digest = release.query;
    let subject = Subject {
        face: digest,
        query: digest,
        roster: roster.digest(),
    };
    let own = Offer {
        holder: release.members[0].holder.clone(),
        roster: subject.roster,
        min_holders: 2,
        keys: release.members[0].keys.clone(),
        signature: release.members[0].signature,
    };
    let _ = release.check(&subject, &roster, &own);
    let _ = own.check(&subject, &roster);
}

/// The file of holders that mask.
pub fn roster(bytes: &[u8]) {
    let Ok(roster) = Roster::from_toml(bytes) else {
        return;
    };
    let again = Roster::new(roster.holders().to_vec()).expect("what was read is a roster");
    assert_eq!(again.digest(), roster.digest());
    for (place, entry) in roster.holders().iter().enumerate() {
        assert_eq!(roster.place(&entry.name), Some(place));
    }
}

/// A batch of CIFAR-10.
pub fn cifar10(bytes: &[u8]) {
    with_file("bin", bytes, |path| {
        if let Ok((pixels, labels)) = data::read_cifar10(path) {
            assert_eq!(pixels.len(), labels.len() * 3 * 32 * 32);
        }
    });
}

/// An ONNX model.
pub fn onnx(bytes: &[u8]) {
    if let Ok(graph) = import::onnx::from_bytes(bytes) {
        sound(&graph);
    }
}

/// A Keras model in one HDF5 file.
pub fn keras_h5(bytes: &[u8]) {
    if let Ok(graph) = import::keras::from_h5(bytes) {
        sound(&graph);
    }
}

/// A Keras archive.
pub fn keras_zip(bytes: &[u8]) {
    if let Ok(graph) = import::keras::from_archive(bytes) {
        sound(&graph);
    }
}

/// An architecture file, a zero byte, and a safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let (Some(architecture), Some(weights)) = (halves.next(), halves.next()) else {
        return;
    };
    if let Ok(graph) = import::safetensors::from_bytes(weights, architecture) {
        sound(&graph);
    }
}

/// An imported graph is a valid one, and one that can be written again.
fn sound(graph: &Graph) {
    graph.validate().expect("an importer gives valid graphs");
    let shapes = graph.shapes().expect("a valid graph has shapes");
    assert_eq!(shapes.len(), graph.nodes.len());
    // Not every graph has an ONNX form; writing must not panic.
    let _ = export::onnx(graph);
}

/// Calls `read` with a file of its own for this process.
fn with_file(ending: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let name = format!("scuro-fuzz-{}.{ending}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    read(&path);
}
