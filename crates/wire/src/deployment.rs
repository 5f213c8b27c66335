//! Contract of a device's server, which the vault's deployment agent calls.
//!
//! All calls need the vault's certificate ([`crate::tls::VAULT_NAME`]); any other peer gets 403.
//!
//! 1. `HEAD` or `GET` [`crate::paths::ARTEFACT`]: how many bytes are there (404: none).
//! 2. `PUT ?offset=N` with at most [`crate::limits::CHUNK_BYTES`] bytes, in order, and the header
//!    [`ARTEFACT_BYTES_HEADER`] with the size of the whole. The device writes and syncs the piece
//!    before it answers. 409 with the present status if `N` is not what is stored; 422 if the last
//!    piece completes an artefact whose digest is another one: it is then thrown away; 507 if the
//!    disk is full.
//! 3. `POST` [`crate::paths::DEPLOYMENTS`] with the canonical bytes of the manifest: 200 and
//!    [`DeploymentStatus`] once it is active and on disk; 409 if artefacts are missing.
//! 4. `POST` [`crate::paths::ROLLBACK`] `?leave=DIGEST` ([`crate::paths::roll_back`]): 200 and the
//!    status of the deployment that is active now; 409 if there is none before. A device that does
//!    not run the deployment to be left has left it already and changes nothing, so the request can
//!    be sent again. Without a digest, whatever is active is left.

use serde::{Deserialize, Serialize};

use crate::hex::Digest;
use crate::name::Name;

/// Header of every `PUT`: bytes of the whole artefact.
pub const ARTEFACT_BYTES_HEADER: &str = "x-scuro-artefact-bytes";

/// What a device holds of one artefact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtefactStatus {
    /// Digest of the whole.
    pub digest: Digest,
    /// Bytes on disk.
    pub bytes_stored: u64,
    /// Whether the whole is there and its digest is verified.
    pub complete: bool,
}

/// State of a deployment on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// The one that answers frames.
    Active,
    /// Was active before; a roll-back goes to the newest of these.
    Previous,
}

/// One deployment on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Digest of the manifest.
    pub deployment: Digest,
    /// Model.
    pub name: Name,
    /// Version of the model.
    pub version: u32,
    /// State.
    pub state: DeploymentState,
    /// When it became active last, seconds since 1970.
    pub activated: u64,
}

/// What a roll-back is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollBack {
    /// The deployment to leave; nothing for whichever is active.
    pub leave: Option<Digest>,
}

/// Every deployment that a device still holds: the active one, then those before it, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentList {
    /// At most [`crate::limits::DEPLOYMENTS`].
    pub deployments: Vec<DeploymentStatus>,
}
