//! The whole device, started and stopped.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use scuro_wire::https::{self, Client};
use scuro_wire::metrics::Metrics;
use scuro_wire::mqtt::Topic;
use scuro_wire::private;
use scuro_wire::tls::{Identity, VAULT_NAME};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::agent::Agent;
use super::artefacts::Artefacts;
use super::deployments::Deployments;
use super::device::{self, Device};
use super::intake::{Form, Intake};
use super::registrar::{Registered, Registrar};
use super::sources::{Directory, Http, Mqtt, Source, Stdin, StreamFormat};
use super::spool::{Limits, Spool};
use super::uplink::{Backoff, Uplink};
use crate::error::Error;

const LOCK: &str = "lock";

/// How a device is run.
#[derive(Debug)]
pub struct Options {
    /// Everything that the device keeps; made if it is not there.
    pub folder: PathBuf,
    /// Its certificate and key, and the authority.
    pub identity: Identity,
    /// The vault, `host:port`; without one inferences only gather.
    pub vault: Option<String>,
    /// Where the vault's deployment agent finds the device.
    pub listen: SocketAddr,
    /// Where frames are posted.
    pub http: Option<SocketAddr>,
    /// Folders that are watched.
    pub watch: Vec<PathBuf>,
    /// Frames on standard input.
    pub stdin: Option<StreamFormat>,
    /// Topics of MQTT brokers.
    pub mqtt: Vec<Topic>,
    /// What their messages are.
    pub mqtt_form: Form,
    /// Worker threads; 0 = all cores.
    pub workers: usize,
    /// Bounds of the spool.
    pub limits: Limits,
}

/// Where a running device can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The device's server, mutual TLS.
    pub device: SocketAddr,
    /// The server for frames, plain HTTP.
    pub http: Option<SocketAddr>,
}

/// A running device.
#[derive(Debug)]
pub struct Edge {
    addresses: Addresses,
    intake: Intake,
    spool: Spool,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Held while the folder is in use.
    _lock: File,
}

impl Edge {
    /// Starts everything; returns once the device can be reached.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Setting`], [`Error::Wire`] for a bad bundle,
    /// [`Error::SpoolDamaged`], [`Error::Io`].
    pub async fn start(options: Options) -> Result<Self, Error> {
        private::make_folder(&options.folder).map_err(Error::io("make", &options.folder))?;
        let lock = lock(&options.folder)?;
        let metrics = Arc::new(Metrics::default());
        let spool = Spool::open(&options.folder, options.limits)?;
        let artefacts = Arc::new(Artefacts::open(&options.folder)?);
        let deployments = Arc::new(Deployments::open(&options.folder, Arc::clone(&artefacts))?);
        let (stop, stopping) = watch::channel(false);
        let active = deployments.active();
        let device = Device {
            artefacts,
            deployments: Arc::clone(&deployments),
            spool: spool.clone(),
            metrics: Arc::clone(&metrics),
        };
        let (server, address) = serve_device(&options, device.clone(), stopping.clone()).await?;
        let intake = Intake::new(
            spool.clone(),
            active.clone(),
            stopping.clone(),
            Arc::clone(&metrics),
        );
        let (sources, http) = sources(&options, device.clone()).await?;
        let mut tasks = vec![server];
        tasks.extend(sources.into_iter().map(|source| acquire(source, &intake)));
        tasks.extend(to_the_vault(&options, &device, &stopping)?);
        let agent = Agent {
            spool: spool.clone(),
            active,
            deployments,
            stop: stopping,
            metrics: Arc::clone(&metrics),
            round: Arc::default(),
        };
        Ok(Self {
            addresses: Addresses {
                device: address,
                http,
            },
            intake,
            spool,
            metrics,
            threads: agent.start(workers(options.workers))?,
            stop,
            tasks,
            _lock: lock,
        })
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Hands frames in from the same process.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The spool.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops: sources first, then workers after the frame they are at, then the rest. What is done
    /// is on disk when this returns; what is not stays there as it is.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has been reported by the runtime.
            let _ = task.await;
        }
        let join = move || {
            self.threads
                .into_iter()
                .for_each(|thread| drop(thread.join()))
        };
        // A thread that panicked has been reported by its hook.
        let _ = tokio::task::spawn_blocking(join).await;
        // While the folder is locked. What cannot be written has been told, and runs again.
        let _ = self.spool.flush().await;
    }
}

/// Runs a device until SIGINT or SIGTERM; `started` is told where it can be reached.
///
/// # Errors
/// As [`Edge::start`].
pub fn run(options: Options, started: impl FnOnce(Addresses)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime for", &options.folder))?;
    let outcome = runtime.block_on(async {
        let edge = Edge::start(options).await?;
        started(edge.addresses());
        wait_for_signal().await?;
        tracing::info!("stopping");
        edge.stop().await;
        Ok(())
    });
    // The reader of standard input cannot be called off.
    runtime.shutdown_background();
    outcome
}

async fn wait_for_signal() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = || Error::io("wait for", Path::new("SIGTERM"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Whether a service works in `folder` now.
///
/// # Errors
/// [`Error::Io`].
pub fn is_running(folder: &Path) -> Result<bool, Error> {
    if !folder.join(LOCK).exists() {
        return Ok(false);
    }
    match lock(folder) {
        Ok(_) => Ok(false),
        Err(Error::InUse { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse {
            path: folder.to_path_buf(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

async fn serve_device(
    options: &Options,
    device: Device,
    mut stopping: watch::Receiver<bool>,
) -> Result<(tokio::task::JoinHandle<()>, SocketAddr), Error> {
    let address = options.listen;
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| Error::Setting {
        what: "the device's address",
        found: format!("{address} ({error})"),
        expected: "a free address of this machine",
    })?;
    let failed = Error::io("read the address of", &options.folder);
    let address = listener.local_addr().map_err(failed)?;
    let tls = options.identity.server_config()?;
    let metrics = Arc::clone(&device.metrics);
    let stop = async move {
        // A sender that is gone means the end as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let router = device::router(device);
    let served = https::serve(listener, tls, router, metrics, stop);
    Ok((tokio::spawn(served), address))
}

/// What goes on between the device and its vault, if it has one: queries are registered, inferences
/// sent.
fn to_the_vault(
    options: &Options,
    device: &Device,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, Error> {
    let Some(vault) = &options.vault else {
        return Ok(Vec::new());
    };
    let tls = options.identity.client_config()?;
    let registered = Arc::new(Registered::default());
    let registrar = Registrar {
        spool: device.spool.clone(),
        active: device.deployments.active(),
        deployments: Arc::clone(&device.deployments),
        client: Client::new(vault, VAULT_NAME, Arc::clone(&tls)),
        stop: stop.clone(),
        metrics: Arc::clone(&device.metrics),
        backoff: Backoff::new(random_bytes()?),
        registered: Arc::clone(&registered),
    };
    let uplink = Uplink {
        spool: device.spool.clone(),
        deployments: Arc::clone(&device.deployments),
        client: Client::new(vault, VAULT_NAME, tls),
        stop: stop.clone(),
        metrics: Arc::clone(&device.metrics),
        backoff: Backoff::new(random_bytes()?),
        registered,
    };
    Ok(vec![
        tokio::spawn(registrar.run()),
        tokio::spawn(uplink.run()),
    ])
}

async fn sources(
    options: &Options,
    device: Device,
) -> Result<(Vec<Box<dyn Source>>, Option<SocketAddr>), Error> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for folder in &options.watch {
        sources.push(Box::new(Directory::new(folder.clone())?));
    }
    if let Some(format) = options.stdin {
        let run = u64::from_le_bytes(random_bytes()?);
        sources.push(Box::new(Stdin::new(format, &format!("{run:016x}"))));
    }
    let name = options.identity.peer()?.name;
    for topic in &options.mqtt {
        let hash = blake3::hash(topic.url().as_bytes()).to_hex();
        let client = format!("scuro-edge-{name}-{}", &hash[..8]);
        let (topic, form) = (topic.clone(), options.mqtt_form);
        sources.push(Box::new(Mqtt::new(topic, form, client, random_bytes()?)));
    }
    let mut address = None;
    if let Some(listen) = options.http {
        let http = Http::bind(listen, device::health(device)).await?;
        address = Some(http.address()?);
        sources.push(Box::new(http));
    }
    Ok((sources, address))
}

fn acquire(source: Box<dyn Source>, intake: &Intake) -> tokio::task::JoinHandle<()> {
    let (name, intake) = (source.name(), intake.clone());
    tokio::spawn(async move {
        if let Err(error) = source.acquire(intake).await {
            tracing::error!(source = name, %error, "a source has ended");
        }
    })
}

fn workers(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Randomness {
        message: error.to_string(),
    })?;
    Ok(bytes)
}
