//! The paper's tables: protection, processing with features in clear and encrypted, decryption, for
//! three networks at three levels of security, ours beside the paper's and SEAL's.

use serde::{Deserialize, Serialize};

use super::measure;
use super::published::{LEVELS, NETWORKS};
use super::subject::{Network, Point, Scheme, Subject};
use crate::bench::case::Settings;
use crate::errors::Failure;
use crate::machine::Machine;
use crate::noise::{self, Input, Probe};
use crate::progress::Progress;
use crate::session::Session;
use crate::workspace::Workspace;

/// What the JSON says it is.
pub(crate) const KIND: &str = "gomez-tables";
const METHOD: &str = "processor time of one thread, median; memory is the peak of a process that \
                      does only this";
const MEGABYTE: f64 = 1e6;

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tables {
    /// [`KIND`].
    pub(crate) kind: String,
    /// Machine, commit, kernel.
    pub(crate) header: Machine,
    /// How it was taken.
    pub(crate) method: String,
    /// Network after network, scheme after scheme, level after level.
    pub(crate) rows: Vec<Row>,
    /// What could not be measured, and why.
    pub(crate) missing: Vec<String>,
}

/// One network under one scheme at one level of security.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `classifier`, `no-activation`, `last-layer`.
    pub(crate) network: String,
    /// `CKKS` or `BGV`.
    pub(crate) scheme: String,
    /// Bits.
    pub(crate) security: u32,
    /// Ring and primes.
    pub(crate) parameters: String,
    /// Where the network is from.
    pub(crate) origin: String,
    /// Keys and encrypted weights.
    pub(crate) protection: Usage,
    /// Megabytes of encrypted weights on disk.
    pub(crate) weights_mb: f64,
    /// The same as a multiple of 32-bit floats.
    pub(crate) weights_factor: f64,
    /// Features in clear.
    pub(crate) plain: Processing,
    /// Features encrypted.
    pub(crate) sealed: Processing,
    /// Reply to scores.
    pub(crate) decryption: Usage,
}

/// Time and memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time.
    pub(crate) milliseconds: f64,
    /// Peak of the process, if the system tells.
    pub(crate) memory_mb: Option<f64>,
}

/// One evaluation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Processing {
    /// Time and memory.
    pub(crate) usage: Usage,
    /// Bits of the reply that stand above its noise.
    pub(crate) precision_bits: f64,
    /// Bits of modulus that the reply leaves free.
    pub(crate) room_bits: f64,
}

/// Measures all rows, or those of the network that `only` names.
///
/// # Errors
/// For a name that is none of [`NETWORKS`].
pub(crate) fn measure_all(settings: &Settings<'_>, only: Option<&str>) -> Result<Tables, Failure> {
    let wanted = |network: &Network| only.is_none_or(|name| name == network.name());
    let networks = [
        Network::Classifier,
        Network::NoActivation,
        Network::LastLayer,
    ];
    let networks: Vec<Network> = networks.into_iter().filter(wanted).collect();
    if networks.is_empty() {
        let message = format!("there are tables of {} only", NETWORKS.join(", "));
        return Err(Failure::bad_input("bench.tables", message));
    }
    let schemes = [Scheme::Ckks, Scheme::Bgv];
    let pairs = networks
        .iter()
        .flat_map(|n| schemes.iter().map(move |s| (*n, *s)));
    let point = |(network, scheme)| LEVELS.map(|bits| Point::private(network, scheme, bits));
    let points: Vec<Point> = pairs.flat_map(point).collect();
    let progress = Progress::bar(settings.context, "tables", points.len());
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for point in points {
        match row(settings, point) {
            Ok(row) => rows.push(row),
            Err(failure) => missing.push(format!(
                "{} {} {} bits could not run: {failure}",
                point.network.name(),
                point.scheme.name(),
                point.security
            )),
        }
        progress.advance(1);
    }
    Ok(Tables {
        kind: KIND.into(),
        header: Machine::detect(),
        method: METHOD.into(),
        rows,
        missing,
    })
}

fn row(settings: &Settings<'_>, point: Point) -> Result<Row, Failure> {
    let subject = Subject::get(settings, point)?;
    let memory = Memory::measure(settings, &subject)?;
    let session = Session::new(&subject.compiled.model, settings.threads)?;
    let (program, input) = (subject.compiled.model.program(), &subject.inputs[0]);
    let probe = |input| -> Result<Probe, Failure> {
        let probes = noise::measure(&session, program, input)?;
        let last = probes.last().copied();
        last.ok_or_else(|| Failure::internal("a program without steps"))
    };
    let processing = |milliseconds, memory_mb, probe: Probe| Processing {
        usage: Usage {
            milliseconds,
            memory_mb,
        },
        precision_bits: probe.precision_bits(),
        room_bits: probe.room_bits(),
    };
    let sealed = measure::latency(settings, point)?.median();
    let plain = measure::latency_plain(settings, point)?.median();
    let weights_mb = memory.weights as f64 / MEGABYTE;
    Ok(Row {
        network: point.network.name().into(),
        scheme: point.scheme.name().into(),
        security: point.security,
        parameters: subject.parameters(),
        origin: subject.origin.clone(),
        protection: Usage {
            milliseconds: measure::protection(settings, point)?.median(),
            memory_mb: memory.protection,
        },
        weights_mb,
        weights_factor: weights_mb * MEGABYTE / subject.float_bytes()?,
        plain: processing(plain, memory.plain, probe(Input::Clear(input))?),
        sealed: processing(sealed, memory.sealed, probe(Input::Sealed(input))?),
        decryption: Usage {
            milliseconds: measure::decryption(settings, point)?.median(),
            memory_mb: memory.decryption,
        },
    })
}

/// Megabytes of processes of their own, each a verb of the command line.
struct Memory {
    protection: Option<f64>,
    plain: Option<f64>,
    sealed: Option<f64>,
    decryption: Option<f64>,
    /// Bytes on disk.
    weights: u64,
}

const PRIVATE: &str = "private.scuro";
const FEATURES: &str = "features.json";
const QUERY: &str = "query.ct";
const REPLY: &str = "reply.ct";
const PROGRAM: &str = "protected/device/program.scuro";
const WEIGHTS: &str = "protected/device/weights.ct";
const PUBLIC: &str = "protected/device/public.key";

impl Memory {
    fn measure(settings: &Settings<'_>, subject: &Subject) -> Result<Self, Failure> {
        let workspace = Workspace::new(None)?;
        let write = |name, bytes: &[u8]| crate::files::write(&workspace.path(name), bytes);
        let run = |verb, arguments: &[&str]| -> Result<Option<f64>, Failure> {
            let data = workspace.run(verb, arguments, settings.threads)?;
            Ok(data["peak_memory_bytes"].as_f64().map(|b| b / MEGABYTE))
        };
        let input = &subject.inputs[0];
        write(PRIVATE, &subject.compiled.model.program().to_bytes())?;
        let protection = run("protect", &[PRIVATE, "--out", "protected"])?;
        let features = serde_json::to_vec(input);
        let features = features.map_err(|e| Failure::internal(format!("features: {e}")))?;
        write(FEATURES, &features)?;
        let read = |name| crate::files::read(&workspace.path(name));
        write(QUERY, &query(&read(PROGRAM)?, &read(PUBLIC)?, input)?)?;
        let device = ["--keys", "protected/device", "--weights", WEIGHTS];
        let evaluate = |query| {
            let places = [PROGRAM, query, "--out", REPLY];
            run("evaluate", &[&places[..], &device[..]].concat())
        };
        Ok(Self {
            protection,
            plain: evaluate(FEATURES)?,
            sealed: evaluate(QUERY)?,
            decryption: run("decrypt", &[PROGRAM, REPLY, "--key", "protected/owner"])?,
            weights: read(WEIGHTS)?.len() as u64,
        })
    }
}

/// The features, encrypted with the public key of the protected model.
fn query(program: &[u8], public: &[u8], features: &[f32]) -> Result<Vec<u8>, Failure> {
    let model = scuro_client::Model::open(program)?;
    let public = scuro_fhe::keys::PublicKey::from_bytes(public, model.context())?;
    let client = scuro_client::PublicClient::new(&model, public);
    let query = client.encrypt(&[features], &mut crate::secrets::generator()?)?;
    Ok(query.to_bytes())
}
