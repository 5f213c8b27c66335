//! What the holders of an ensemble, its coordinator and its users say to each other besides queries
//! ([`crate::predict`]), and the user's side of it.
//!
//! To a user the coordinator is what a holder is to the coordinator: the endpoints are the same.

use axum::body::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::hex::{Digest, Signature, UserId};
use crate::https::{Answer, Client};
use crate::name::Name;
use crate::predict::{self, PredictQuery, PredictReply};
use crate::user::{Message, UserKey};
use crate::{limits, paths};

/// Header of an upload of keys: who uploads.
pub const USER_HEADER: &str = "x-scuro-user";
/// Header of an upload of keys: the user's signature.
pub const SIGNATURE_HEADER: &str = "x-scuro-signature";

/// What a service is in an ensemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Has one network.
    Holder,
    /// Asks the holders and combines what they answer.
    Coordinator,
}

/// Answer to `GET` [`paths::ENSEMBLE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsembleStatus {
    /// The service's own name.
    pub name: Name,
    /// What it is.
    pub role: Role,
    /// Digest of the face.
    pub face: Digest,
    /// Digest of the encryption parameters.
    pub parameters: Digest,
    /// Names of the classes, in order; none if the program has none.
    pub classes: Vec<String>,
    /// How predictions can be combined, the usual way first; none for a holder.
    pub rules: Vec<Name>,
    /// Those of them under which a user decrypts every single prediction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reveals: Vec<Name>,
    /// Whether holders mask their predictions, so that only their sum can be read.
    #[serde(default)]
    pub masked: bool,
    /// Digest of the roster of holders that mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<Digest>,
    /// Fewest holders that make an answer; for a holder 1, or those in whose sum alone it releases
    /// its masked prediction.
    pub min_holders: usize,
    /// The holders; none for a holder.
    pub holders: Vec<HolderStatus>,
}

/// How the coordinator sees a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    /// Its name.
    pub holder: String,
    /// State.
    pub state: HolderState,
    /// Stable name of what is wrong with it, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// States of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HolderState {
    /// Answers.
    Well,
    /// Has not been reached yet, or not any more.
    Unwell,
    /// Does not fit the ensemble.
    Misfit,
}

/// Answer to `GET` [`paths::MODEL`], as the Open Inference Protocol has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// [`predict::MODEL`].
    pub name: String,
    /// The digest of the face alone.
    pub versions: Vec<Digest>,
    /// Always `scuro`.
    pub platform: String,
    /// The encrypted query.
    pub inputs: Vec<TensorMetadata>,
    /// The encrypted prediction.
    pub outputs: Vec<TensorMetadata>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// Name.
    pub name: String,
    /// Type.
    pub datatype: String,
    /// Shape.
    pub shape: Vec<i64>,
}

impl ModelMetadata {
    /// The metadata of the ensemble with this face.
    pub fn of(face: Digest) -> Self {
        let tensor = |name: &str| TensorMetadata {
            name: name.to_string(),
            datatype: predict::DATATYPE.to_string(),
            shape: vec![1],
        };
        Self {
            name: predict::MODEL.to_string(),
            versions: vec![face],
            platform: "scuro".to_string(),
            inputs: vec![tensor(predict::INPUT)],
            outputs: vec![tensor(predict::OUTPUT)],
        }
    }
}

/// A user's connection to a coordinator or a holder.
#[derive(Debug)]
pub struct Caller {
    client: Client,
}

impl Caller {
    /// Calls over this connection.
    pub fn new(client: Client) -> Self {
        let bytes = limits::PREDICT_BYTES + limits::PREDICT_HEAD_BYTES;
        let client = client.bounded(bytes, limits::REQUEST);
        Self { client }
    }

    /// The face: bytes of a program.
    ///
    /// # Errors
    /// [`WireError::Refused`], or as [`Client::send`].
    pub async fn face(&mut self) -> Result<Bytes, WireError> {
        let face = self.get(paths::FACE).await?.body;
        WireError::check_size("face", face.len(), limits::FACE_BYTES)?;
        Ok(face)
    }

    /// What the other side is, and who belongs to it.
    ///
    /// # Errors
    /// [`WireError::Refused`], [`WireError::Json`], or as [`Client::send`].
    pub async fn status(&mut self) -> Result<EnsembleStatus, WireError> {
        self.get(paths::ENSEMBLE).await?.json()
    }

    /// The file of rules; nothing if the other side has none.
    ///
    /// # Errors
    /// [`WireError::Refused`], or as [`Client::send`].
    pub async fn rules(&mut self) -> Result<Option<Bytes>, WireError> {
        match self.get(paths::RULES).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(WireError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Uploads a set of evaluation keys for the ensemble with this face; returns its digest.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Refused`], or as [`Client::send`].
    pub async fn put_keys(
        &mut self,
        keys: Bytes,
        face: &Digest,
        user: &UserKey,
    ) -> Result<Digest, WireError> {
        WireError::check_size("key set", keys.len(), limits::KEY_SET_BYTES)?;
        let digest = Digest::of(&keys);
        let signature = user.sign(&Message::upload(&digest, face));
        let headers = upload_headers(&user.id(), &signature);
        let path = paths::key_set(&digest);
        self.send(Method::PUT, &path, &headers, keys).await?;
        Ok(digest)
    }

    /// Asks.
    ///
    /// # Errors
    /// [`WireError::Refused`], a malformed answer, or as [`Client::send`].
    pub async fn predict(&mut self, query: &PredictQuery) -> Result<PredictReply, WireError> {
        let (head, body) = query.to_bytes();
        let headers = predict_headers(head);
        let answer = self
            .send(Method::POST, paths::INFER, &headers, body)
            .await?;
        PredictReply::from_bytes(head_length(&answer), &answer.body)
    }

    async fn get(&mut self, path: &str) -> Result<Answer, WireError> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// A whole answer that is a success.
    ///
    /// # Errors
    /// [`WireError::Refused`], or as [`Client::send`].
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Answer, WireError> {
        let answer = self.client.send(method, path, headers, body).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(WireError::Refused {
                status: answer.status.as_u16(),
                problem: answer.problem(),
            }),
        }
    }
}

/// Headers of a query whose head is so long.
pub fn predict_headers(head: usize) -> [(&'static str, String); 2] {
    [
        ("content-type", predict::CONTENT_TYPE.to_string()),
        (predict::HEAD_LENGTH_HEADER, head.to_string()),
    ]
}

/// Headers of an upload of keys.
pub fn upload_headers(user: &UserId, signature: &Signature) -> [(&'static str, String); 3] {
    [
        ("content-type", predict::CONTENT_TYPE.to_string()),
        (USER_HEADER, user.to_string()),
        (SIGNATURE_HEADER, signature.to_string()),
    ]
}

/// The header with the length of an answer's head.
pub fn head_length(answer: &Answer) -> Option<&str> {
    let value = answer.headers.get(predict::HEAD_LENGTH_HEADER);
    value.and_then(|value| value.to_str().ok())
}
