//! The deployment agent: pushes a model's artefacts to a device and activates them.
//!
//! Every step can be repeated: what the device has on disk it does not get again, so a deployment
//! that was cut off on either side goes on where it stopped. The other side of the contract is
//! `scuro_wire::deployment`.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use rusqlite::{Connection, params};
use scuro_wire::deployment::{
    ARTEFACT_BYTES_HEADER, ArtefactStatus, DeploymentList, DeploymentState, DeploymentStatus,
};
use scuro_wire::https::{Answer, Client};
use scuro_wire::{Artefact, Digest, ModelReference, Name, WireError, limits, paths};

use crate::error::VaultError;
use crate::registry::ModelRecord;
use crate::vault::Vault;

/// Tries of one request while the device is away.
const TRIES: u32 = 6;
/// Pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// How often an artefact may arrive damaged before the deployment fails.
const DAMAGED_MAX: u32 = 2;

/// What a deployment did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployReport {
    /// Digest of the manifest.
    pub deployment: Digest,
    /// `NAME:VERSION`.
    pub model: String,
    /// Bytes of all artefacts.
    pub bytes: u64,
    /// Bytes that had to travel.
    pub bytes_sent: u64,
    /// From start to activation.
    pub took: Duration,
}

/// State of a deployment in the vault's books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Device.
    pub device: Name,
    /// Digest of the manifest.
    pub deployment: Digest,
    /// `NAME:VERSION`.
    pub model: String,
    /// `pushing`, `active` or `previous`.
    pub state: String,
    /// Seconds since 1970.
    pub changed: u64,
}

impl Vault {
    /// Deploys a model to a device and calls `progress` with the bytes that are there.
    ///
    /// # Errors
    /// [`VaultError::Retired`], [`VaultError::Expired`], [`VaultError::Peer`] before anything is
    /// sent; [`VaultError::Tampered`] if an artefact of the vault changed on disk;
    /// [`VaultError::Device`] and [`VaultError::Wire`] from the device.
    pub async fn deploy(
        &self,
        reference: &ModelReference,
        device: &Name,
        address: Option<&str>,
        now: u64,
        progress: impl Fn(u64),
    ) -> Result<DeployReport, VaultError> {
        let start = Instant::now();
        let record = self.model(reference)?;
        record.check_usable(now)?;
        let mut link = self.link(device, address, now)?;
        for artefact in &record.manifest.artefacts {
            self.blobs.verify(&artefact.digest)?;
        }
        self.note(device, &record.deployment, "pushing", now)?;
        let (mut there, mut sent) = (0, 0);
        for artefact in &record.manifest.artefacts {
            sent += push(self, &mut link, artefact, &|bytes| progress(there + bytes)).await?;
            there += artefact.bytes;
        }
        activate(&mut link, &record).await?;
        self.database
            .write(|db| set_active(db, device, &record.deployment, now))?;
        tracing::info!(%device, model = record.reference(), bytes = there, sent, "deployed");
        Ok(DeployReport {
            deployment: record.deployment,
            model: record.reference(),
            bytes: there,
            bytes_sent: sent,
            took: start.elapsed(),
        })
    }

    /// Takes a device back to the deployment before, once.
    ///
    /// # Errors
    /// [`VaultError::NothingBefore`]; [`VaultError::Retired`] and [`VaultError::Expired`] if the
    /// one before may not be used any more, [`VaultError::NotFound`] if the vault never gave it.
    pub async fn roll_back(
        &self,
        device: &Name,
        address: Option<&str>,
        now: u64,
    ) -> Result<DeploymentStatus, VaultError> {
        let mut link = self.link(device, address, now)?;
        let list = link.deployments().await?;
        let [active, before, ..] = &list.deployments[..] else {
            let device = device.to_string();
            return Err(VaultError::NothingBefore { device });
        };
        // The answer to the roll-back before may have been lost: it is not to be carried out twice.
        let status = match self.books_say_left(device, &active.deployment)? {
            true => active.clone(),
            false => self.leave(&mut link, active, before, now).await?,
        };
        self.database
            .write(|db| set_active(db, device, &status.deployment, now))?;
        tracing::info!(%device, model = %status.name, version = status.version, "rolled back");
        Ok(status)
    }

    /// Makes a device leave its active deployment for the one before.
    async fn leave(
        &self,
        link: &mut Link,
        active: &DeploymentStatus,
        before: &DeploymentStatus,
        now: u64,
    ) -> Result<DeploymentStatus, VaultError> {
        let find = |db: &Connection| self.model_of(db, &before.deployment);
        let target = self.database.read(find)?.ok_or_else(|| {
            VaultError::not_found("model of deployment", before.deployment.short())
        })?;
        target.check_usable(now)?;
        let path = paths::roll_back(&active.deployment);
        let answer = link.send(Method::POST, &path, &[], &[]).await?;
        let status: DeploymentStatus = link.expect("roll back", &answer)?.json()?;
        link.check_active(&status, &target)?;
        Ok(status)
    }

    /// Whether the vault believes that the device went from this deployment to another.
    fn books_say_left(&self, device: &Name, deployment: &Digest) -> Result<bool, VaultError> {
        let sql = "SELECT count(*) FROM deployments
                   WHERE device = ?1 AND deployment = ?2 AND state = 'previous'";
        let values = params![device.as_str(), deployment.0];
        let count = |db: &Connection| Ok(db.query_row(sql, values, |row| row.get::<_, i64>(0))?);
        Ok(self.database.read(count)? > 0)
    }

    /// What the device itself says that it holds.
    ///
    /// # Errors
    /// [`VaultError::Device`], [`VaultError::Wire`].
    pub async fn device_deployments(
        &self,
        device: &Name,
        address: Option<&str>,
        now: u64,
    ) -> Result<DeploymentList, VaultError> {
        self.link(device, address, now)?.deployments().await
    }

    /// What the vault deployed, by device, newest first.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn deployments(&self) -> Result<Vec<DeploymentRecord>, VaultError> {
        self.database.read(|db| {
            let mut statement = db.prepare(
                "SELECT d.device, d.deployment, m.name || ':' || m.version, d.state, d.changed
                 FROM deployments d JOIN models m USING (deployment)
                 ORDER BY d.device, d.changed DESC",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(DeploymentRecord {
                    device: crate::devices::text(row, 0)?,
                    deployment: Digest(row.get(1)?),
                    model: row.get(2)?,
                    state: row.get(3)?,
                    changed: row.get::<_, i64>(4)? as u64,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn link(&self, device: &Name, address: Option<&str>, now: u64) -> Result<Link, VaultError> {
        let record = self.active_device(device)?;
        let address = address.map(str::to_string).or(record.address);
        let address = address.ok_or_else(|| VaultError::NoAddress {
            name: device.to_string(),
        })?;
        let tls = self.identity(now)?.client_config()?;
        Ok(Link {
            client: Client::new(&address, device.as_str(), tls),
            device: device.to_string(),
        })
    }

    fn note(
        &self,
        device: &Name,
        deployment: &Digest,
        state: &str,
        now: u64,
    ) -> Result<(), VaultError> {
        // One that answers frames goes on doing so while it is pushed again.
        self.database.write(|db| {
            db.execute(
                "INSERT INTO deployments VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(device, deployment) DO UPDATE
                 SET state = excluded.state, changed = excluded.changed WHERE state = 'previous'",
                params![device.as_str(), deployment.0, state, now as i64],
            )?;
            Ok(())
        })
    }
}

/// Whether this deployment was given to the device. A push that began counts: the device may have
/// activated it while the vault was cut off before it could note that.
pub(crate) fn was_given(
    db: &Connection,
    device: &Name,
    deployment: &Digest,
) -> Result<bool, VaultError> {
    let sql = "SELECT count(*) FROM deployments WHERE device = ?1 AND deployment = ?2";
    let values = params![device.as_str(), deployment.0];
    Ok(db.query_row(sql, values, |row| row.get::<_, i64>(0))? > 0)
}

fn set_active(
    db: &Connection,
    device: &Name,
    deployment: &Digest,
    now: u64,
) -> Result<(), VaultError> {
    db.execute(
        "UPDATE deployments SET state = 'previous' WHERE device = ?1 AND state = 'active'",
        [device.as_str()],
    )?;
    db.execute(
        "INSERT INTO deployments VALUES (?1, ?2, 'active', ?3)
         ON CONFLICT(device, deployment) DO UPDATE SET state = 'active', changed = ?3",
        params![device.as_str(), deployment.0, now as i64],
    )?;
    Ok(())
}

/// A device and the way to it.
struct Link {
    client: Client,
    device: String,
}

impl Link {
    /// Sends a request, again and again while the device is away or busy.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Answer, VaultError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let sent = self
                .client
                .send(method.clone(), path, headers, body.to_vec())
                .await;
            match sent {
                Ok(answer) if !is_busy(answer.status) => return Ok(answer),
                Ok(answer) => tracing::warn!(device = self.device, status = %answer.status, "busy"),
                Err(error @ (WireError::Connection { .. } | WireError::Timeout { .. })) => {
                    tracing::warn!(device = self.device, %error, "device away");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(self
            .client
            .send(method, path, headers, body.to_vec())
            .await?)
    }

    /// The answer, if it is a success.
    fn expect<'a>(
        &self,
        action: &'static str,
        answer: &'a Answer,
    ) -> Result<&'a Answer, VaultError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(VaultError::Device {
            device: self.device.clone(),
            action,
            status: answer.status.as_u16(),
            problem: answer.problem(),
        })
    }

    /// What the device holds, the active one first.
    async fn deployments(&mut self) -> Result<DeploymentList, VaultError> {
        let answer = self.send(Method::GET, paths::DEPLOYMENTS, &[], &[]).await?;
        Ok(self.expect("list deployments", &answer)?.json()?)
    }

    /// That the device runs what it was told to run.
    fn check_active(
        &self,
        status: &DeploymentStatus,
        record: &ModelRecord,
    ) -> Result<(), VaultError> {
        if status.deployment == record.deployment && status.state == DeploymentState::Active {
            return Ok(());
        }
        Err(VaultError::WrongDeployment {
            device: self.device.clone(),
            found: status.deployment,
            expected: record.deployment,
        })
    }

    /// What the device holds of an artefact.
    async fn status(&mut self, artefact: &Artefact) -> Result<ArtefactStatus, VaultError> {
        let path = paths::artefact(&artefact.digest);
        let answer = self.send(Method::GET, &path, &[], &[]).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(ArtefactStatus {
                digest: artefact.digest,
                bytes_stored: 0,
                complete: false,
            });
        }
        Ok(self.expect("ask for an artefact", &answer)?.json()?)
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Brings one artefact over; gives the bytes that travelled.
async fn push(
    vault: &Vault,
    link: &mut Link,
    artefact: &Artefact,
    progress: &impl Fn(u64),
) -> Result<u64, VaultError> {
    let path = paths::artefact(&artefact.digest);
    let headers = [
        (ARTEFACT_BYTES_HEADER, artefact.bytes.to_string()),
        ("content-type", "application/octet-stream".to_string()),
    ];
    let (mut sent, mut damaged) = (0, 0);
    let mut status = link.status(artefact).await?;
    while !status.complete {
        let offset = status.bytes_stored;
        let piece = vault
            .blobs
            .piece(&artefact.digest, offset, limits::CHUNK_BYTES)?;
        let target = format!("{path}?offset={offset}");
        let answer = link.send(Method::PUT, &target, &headers, &piece).await?;
        status = match answer.status {
            // Another try of ours was carried out, or the device lost its tail: ask, do not guess.
            StatusCode::CONFLICT => link.status(artefact).await?,
            StatusCode::UNPROCESSABLE_ENTITY if damaged < DAMAGED_MAX => {
                damaged += 1;
                tracing::warn!(device = link.device, digest = %artefact.digest, "arrived damaged");
                link.status(artefact).await?
            }
            _ => link.expect("store an artefact", &answer)?.json()?,
        };
        sent += piece.len() as u64;
        check_progress(link, artefact, &status, sent)?;
        progress(status.bytes_stored.min(artefact.bytes));
    }
    Ok(sent)
}

/// A device that asks for the same bytes for ever, or for bytes that are not there, is broken.
fn check_progress(
    link: &Link,
    artefact: &Artefact,
    status: &ArtefactStatus,
    sent: u64,
) -> Result<(), VaultError> {
    let most = artefact.bytes * u64::from(DAMAGED_MAX + 2) + limits::CHUNK_BYTES as u64;
    let beyond = status.bytes_stored >= artefact.bytes && !status.complete;
    if sent <= most && !beyond {
        return Ok(());
    }
    let message = format!("{sent} bytes sent, {} stored", status.bytes_stored);
    Err(VaultError::Device {
        device: link.device.clone(),
        action: "store an artefact",
        status: StatusCode::OK.as_u16(),
        problem: scuro_wire::Problem::new(
            "artefact.no-progress",
            message,
            "check the disk and the log of the device",
        ),
    })
}

async fn activate(link: &mut Link, record: &ModelRecord) -> Result<(), VaultError> {
    let manifest = record.manifest.to_bytes();
    let answer = link
        .send(Method::POST, paths::DEPLOYMENTS, &[], &manifest)
        .await?;
    let status: DeploymentStatus = link.expect("activate a deployment", &answer)?.json()?;
    link.check_active(&status, record)
}
