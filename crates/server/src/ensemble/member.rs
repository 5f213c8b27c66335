//! The coordinator's picture of one holder: how to reach it, whether it is well, what to ask it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use scuro_fhe::AnyCiphertext;
use scuro_program::face::Mismatch;
use scuro_wire::ensemble::{
    EnsembleStatus, HolderState, HolderStatus, head_length, predict_headers, upload_headers,
};
use scuro_wire::https::{Answer, Client, ClientSecurity};
use scuro_wire::mask::{MaskFault, Offer, Subject};
use scuro_wire::predict::{LeftOut, PredictReply};
use scuro_wire::roster::Roster;
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, Name, WireError, limits, paths};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::contract::{Contract, Flaw};
use super::desk::{Admitted, Desk, blocking};
use super::fault::Fault;
use crate::error::Error;

/// Failures in a row after which a holder is not asked until it is back.
const FAILURES: u32 = 3;
/// Tries of one request, if the connection breaks.
const TRIES: u32 = 3;
/// Pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pause before a holder that is unwell is looked at; it doubles up to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// Time for a holder to send its face.
const FACE_TIME: Duration = Duration::from_secs(20);
/// Connections to a holder that are kept open.
const IDLE: usize = 16;

/// Where a holder is: `HOST:PORT`, or `NAME@HOST:PORT` with the name in its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderAddress {
    /// Name in its certificate.
    pub name: Option<Name>,
    /// `host:port`.
    pub address: String,
}

impl FromStr for HolderAddress {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::Setting {
            what: "the address of a service",
            found: text.chars().take(80).collect(),
            expected: "HOST:PORT, or NAME@HOST:PORT",
        };
        let (name, address) = match text.split_once('@') {
            Some((name, address)) => (Some(Name::new(name).map_err(|_| wrong())?), address),
            None => (None, text),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>();
        if host.is_empty() || host.contains(['/', '@']) || port.is_err() {
            return Err(wrong());
        }
        let address = address.to_string();
        Ok(Self { name, address })
    }
}

impl HolderAddress {
    /// What the holder is called: its name, or else where it is.
    pub fn label(&self) -> &str {
        self.name.as_ref().map_or(&self.address, Name::as_str)
    }

    /// A connection, opened when it is needed: with certificates if there are some.
    ///
    /// # Errors
    /// [`Error::Wire`], [`Fault::Setting`] if its certificate has no name to expect.
    pub fn client(&self, identity: Option<&Identity>) -> Result<Client, Error> {
        let tls = identity.map(Identity::client_config).transpose()?;
        if tls.is_some() && self.name.is_none() {
            let setting = Fault::Setting {
                what: "the address of a service with certificates",
                found: self.address.clone(),
                expected: "NAME@HOST:PORT, with the name in its certificate",
            };
            return Err(setting.into());
        }
        let security = ClientSecurity::for_address(&self.address, tls)?;
        Ok(Client::new(&self.address, self.label(), security))
    }
}

/// Why a holder gives no prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lapse {
    code: &'static str,
    message: String,
}

impl Lapse {
    fn new(code: &'static str, message: impl fmt::Display) -> Self {
        // It goes into an answer beside those of all other holders.
        let message = message.to_string().chars().take(300).collect();
        Self { code, message }
    }

    /// No answer within the deadline.
    pub(super) fn late(deadline: Duration) -> Self {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        Self::new("holder.timeout", message)
    }

    fn of_connection(error: &WireError) -> Self {
        let code = match error {
            WireError::Timeout { .. } => "holder.timeout",
            WireError::TooLarge { .. } => "holder.too-large",
            _ => "holder.connection",
        };
        Self::new(code, error)
    }

    fn of_refusal(answer: &Answer) -> Self {
        let problem = answer.problem();
        let code = match (problem.code.as_str(), answer.status.as_u16()) {
            ("query.other-ensemble", _) => "holder.other-ensemble",
            ("masks.required", _) => "holder.masked",
            ("masks.none", _) => "holder.unmasked",
            (_, 429) => "holder.busy",
            _ => "holder.refused",
        };
        Self::new(code, problem)
    }

    fn of_mask(fault: &MaskFault) -> Self {
        let code = match fault {
            MaskFault::OtherRoster { .. } => "holder.other-roster",
            MaskFault::Unknown { .. } => "holder.other-name",
            MaskFault::Signature { .. } => "holder.signature",
            _ => "holder.garbage",
        };
        Self::new(code, fault)
    }

    /// What a holder says of its masks is not what the coordinator needs.
    fn of_roster(status: &EnsembleStatus, roster: Option<Digest>) -> Option<Self> {
        match (status.masked, roster) {
            (true, None) => {
                let message =
                    "it releases masked predictions only, and this coordinator has no roster";
                Some(Self::new("holder.masked", message))
            }
            (false, Some(_)) => {
                let message = "it does not mask its predictions";
                Some(Self::new("holder.unmasked", message))
            }
            (_, expected) if status.roster != expected => {
                let message = "it has another roster";
                Some(Self::new("holder.other-roster", message))
            }
            _ => None,
        }
    }

    /// Whether it is the same until the holder is started anew: its face or its status tells.
    fn is_settled(&self) -> bool {
        matches!(
            self.code,
            "holder.other-ensemble" | "holder.masked" | "holder.unmasked" | "holder.other-roster"
        )
    }

    /// Bytes where a face should be.
    pub(super) fn no_face() -> Self {
        Self::garbage("what it sends is not a face")
    }

    fn garbage(message: impl fmt::Display) -> Self {
        Self::new("holder.garbage", message)
    }

    fn of_flaw(flaw: &Flaw) -> Self {
        let code = match flaw {
            Flaw::Malformed { .. } | Flaw::Kind { .. } => "holder.garbage",
            Flaw::OtherEnsemble { .. } => "holder.other-ensemble",
            Flaw::Count { .. } => "holder.count",
            Flaw::OtherKey { .. } => "holder.other-key",
            Flaw::Level { .. } => "holder.level",
            Flaw::Scale { .. } => "holder.scale",
            Flaw::Parts { .. } => "holder.parts",
            Flaw::Transparent => "holder.transparent",
        };
        Self::new(code, flaw)
    }

    fn of_mismatch(mismatch: &Mismatch) -> Self {
        let code = match mismatch {
            Mismatch::Parameters { .. } => "holder.other-parameters",
            Mismatch::Query { .. } => "holder.other-query",
            Mismatch::Classes { .. } => "holder.other-classes",
            Mismatch::Preprocessing { .. } => "holder.other-preprocessing",
            Mismatch::ReplyScale { .. } | Mismatch::ReplyLevel { .. } | Mismatch::Reply { .. } => {
                "holder.other-reply"
            }
            Mismatch::Keys { .. } => "holder.other-keys",
            Mismatch::Flooding { .. } => "holder.other-flooding",
            _ => "holder.other-face",
        };
        Self::new(code, mismatch)
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What the user is told.
    pub(super) fn left_out(self, holder: &str) -> LeftOut {
        LeftOut {
            holder: holder.to_string(),
            code: self.code.to_string(),
            message: self.message,
        }
    }
}

/// A holder.
#[derive(Debug)]
pub(super) struct Member {
    at: HolderAddress,
    /// Digest of the roster that it must mask by, if it must.
    roster: Option<Digest>,
    identity: Option<Arc<Identity>>,
    idle: Mutex<Vec<Client>>,
    health: Mutex<Health>,
    changed: Notify,
}

#[derive(Debug)]
struct Health {
    state: HolderState,
    lapse: Option<Lapse>,
    failures: u32,
    /// Before the next look.
    pause: Duration,
}

impl Member {
    /// A holder that nobody has looked at yet.
    pub(super) fn new(
        at: HolderAddress,
        roster: Option<Digest>,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        let health = Health {
            state: HolderState::Unwell,
            lapse: Some(Lapse::new("holder.unknown", "it was not reached yet")),
            failures: 0,
            pause: Duration::ZERO,
        };
        Self {
            at,
            roster,
            identity,
            idle: Mutex::default(),
            health: Mutex::new(health),
            changed: Notify::new(),
        }
    }

    pub(super) fn label(&self) -> &str {
        self.at.label()
    }

    pub(super) fn is_well(&self) -> bool {
        self.health().state == HolderState::Well
    }

    pub(super) fn status(&self) -> HolderStatus {
        let health = self.health();
        HolderStatus {
            holder: self.label().to_string(),
            state: health.state,
            code: health.lapse.as_ref().map(|lapse| lapse.code.to_string()),
            message: health.lapse.as_ref().map(|lapse| lapse.message.clone()),
        }
    }

    /// Its face, as it says.
    pub(super) async fn face(&self) -> Result<Bytes, Lapse> {
        Ok(self.get(paths::FACE).await?.body)
    }

    async fn get(&self, path: &str) -> Result<Answer, Lapse> {
        let mut client = self.client(limits::FACE_BYTES, FACE_TIME)?;
        let answer = client.send(Method::GET, path, &[], Bytes::new());
        let answer = answer.await.map_err(|e| Lapse::of_connection(&e))?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(Lapse::of_refusal(&answer)),
        }
    }

    /// Looks at the holder whenever it is not well, for ever; never more often than its pause says.
    pub(super) async fn watch(&self, contract: &Contract) {
        loop {
            while self.is_well() {
                self.changed.notified().await;
            }
            let pause = self.health().pause;
            sleep(pause).await;
            self.look(contract).await;
        }
    }

    /// Fetches its face and what it says of itself, and compares both.
    pub(super) async fn look(&self, contract: &Contract) {
        let (state, lapse) = match self.misfit(contract).await {
            Ok(None) => (HolderState::Well, None),
            Ok(Some(lapse)) => (HolderState::Misfit, Some(lapse)),
            Err(lapse) => (HolderState::Unwell, Some(lapse)),
        };
        self.becomes(state, lapse);
    }

    /// What does not fit, if it answers.
    async fn misfit(&self, contract: &Contract) -> Result<Option<Lapse>, Lapse> {
        let face = self.face().await?;
        if let Some(mismatch) = contract.mismatch(&face).map_err(Lapse::garbage)? {
            return Ok(Some(Lapse::of_mismatch(&mismatch)));
        }
        let status = self.get(paths::ENSEMBLE).await?.json();
        let status: EnsembleStatus = status.map_err(Lapse::garbage)?;
        Ok(Lapse::of_roster(&status, self.roster))
    }

    fn becomes(&self, state: HolderState, lapse: Option<Lapse>) {
        let mut health = self.health();
        let holder = self.label();
        if (health.state, &health.lapse) != (state, &lapse) {
            match &lapse {
                None => tracing::info!(holder, "holder is well"),
                Some(Lapse { code, message }) => {
                    tracing::warn!(holder, code, message, "holder is left out");
                }
            }
        }
        (health.state, health.lapse, health.failures) = (state, lapse, 0);
        // One that comes back only to fail again is looked at ever more seldom, too.
        health.pause = (health.pause * 2).clamp(FIRST_LOOK, LONGEST_LOOK);
    }

    /// Asks for the ciphertexts of its prediction.
    pub(super) async fn ask(
        &self,
        query: &Arc<Admitted>,
        desk: &Arc<Desk>,
    ) -> Result<Vec<AnyCiphertext>, Lapse> {
        let bytes = desk.contract.reply_bytes() + limits::PREDICT_HEAD_BYTES;
        let asked = match self.exchange(query, paths::INFER, bytes).await {
            Ok(answer) => read(query, desk, answer).await,
            Err(lapse) => Err(lapse),
        };
        self.learn(asked.as_ref().err());
        asked
    }

    /// Asks it to hold its prediction; what it offers for its masks.
    pub(super) async fn offer(
        &self,
        query: &Admitted,
        subject: &Subject,
        (roster, place): (&Roster, usize),
    ) -> Result<Offer, Lapse> {
        let exchanged = self.exchange(query, paths::OFFER, limits::PREDICT_HEAD_BYTES);
        let offer = exchanged.await.and_then(|answer| {
            let offer = Offer::from_bytes(&answer.body).map_err(Lapse::garbage)?;
            let checked = offer.check(subject, roster);
            checked.map_err(|fault| Lapse::of_mask(&fault))?;
            let (found, expected) = (&offer.holder, &roster.holders()[place].name);
            match found == expected {
                true => Ok(offer),
                false => Err(Lapse::new("holder.other-name", format!("it is {found}"))),
            }
        });
        // Only a release makes it well: one that never comes to it must not pass for it.
        if let Err(lapse) = &offer {
            self.learn(Some(lapse));
        }
        offer
    }

    /// Has it release the masked ciphertexts of a prediction that it holds.
    pub(super) async fn release(
        &self,
        query: &Arc<Admitted>,
        desk: &Arc<Desk>,
        release: Bytes,
    ) -> Result<Vec<AnyCiphertext>, Lapse> {
        let headers = [("content-type", "application/json".to_string())];
        let bytes = desk.contract.reply_bytes() + limits::PREDICT_HEAD_BYTES;
        let sent = self.send(Method::POST, paths::RELEASE, &headers, release, bytes);
        let released = match sent.await {
            Ok(answer) if answer.status.is_success() => read(query, desk, answer).await,
            Ok(answer) => Err(Lapse::of_refusal(&answer)),
            Err(lapse) => Err(lapse),
        };
        if released.is_ok() {
            self.learn(None);
        }
        released
    }

    /// It offered and did not release: nobody else can be answered with it in the sum.
    pub(super) fn dropped_out(&self, lapse: &Lapse) {
        if self.is_well() {
            self.becomes(HolderState::Unwell, Some(lapse.clone()));
            self.changed.notify_one();
        }
    }

    /// What an answer, or its lack, says of the holder's health.
    pub(super) fn learn(&self, lapse: Option<&Lapse>) {
        let Some(lapse) = lapse else {
            let mut health = self.health();
            (health.failures, health.pause) = (0, Duration::ZERO);
            return;
        };
        if lapse.code == "holder.busy" {
            return;
        }
        let failures = {
            let mut health = self.health();
            health.failures += 1;
            health.failures
        };
        if (lapse.is_settled() || failures >= FAILURES) && self.is_well() {
            self.becomes(HolderState::Unwell, Some(lapse.clone()));
            self.changed.notify_one();
        }
    }

    /// Sends a query, and the keys first if it does not have them; an answer that is a success.
    async fn exchange(
        &self,
        query: &Admitted,
        path: &str,
        answer_bytes: usize,
    ) -> Result<Answer, Lapse> {
        if !self.is_well() {
            let lapse = self.health().lapse.clone();
            return Err(lapse.unwrap_or_else(|| Lapse::new("holder.unwell", "it is not well")));
        }
        let headers = predict_headers(query.head);
        let post = || {
            self.send(
                Method::POST,
                path,
                &headers,
                query.body.clone(),
                answer_bytes,
            )
        };
        let mut answer = post().await?;
        if answer.status.as_u16() == 404 && answer.problem().code == "keys.unknown" {
            self.pass_keys_on(query).await?;
            answer = post().await?;
        }
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(Lapse::of_refusal(&answer)),
        }
    }

    async fn pass_keys_on(&self, query: &Admitted) -> Result<(), Lapse> {
        let keys = &query.keys;
        let lost = || Lapse::new("holder.keys", "the keys to pass on are lost");
        let upload = keys.upload().ok_or_else(lost)?;
        let headers = upload_headers(&keys.user(), &upload.signature);
        let (path, body) = (paths::key_set(&keys.digest()), upload.bytes.clone());
        let bytes = limits::PREDICT_HEAD_BYTES;
        let sent = self.send(Method::PUT, &path, &headers, body, bytes);
        let answer = sent.await?;
        tracing::info!(
            holder = self.label(),
            keys = keys.digest().short(),
            "keys passed on"
        );
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Lapse::of_refusal(&answer)),
        }
    }

    /// Sends until there is an answer: what holders are asked can be asked again.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
        answer_bytes: usize,
    ) -> Result<Answer, Lapse> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let pooled = self.idle().pop();
            let client = match pooled {
                Some(client) => client,
                None => self.client(answer_bytes, limits::REQUEST)?,
            };
            let mut client = client.bounded(answer_bytes, limits::REQUEST);
            let sent = client.send(method.clone(), path, headers, body.clone());
            match sent.await {
                Ok(answer) => {
                    let mut idle = self.idle();
                    if idle.len() < IDLE {
                        idle.push(client);
                    }
                    return Ok(answer);
                }
                Err(error @ WireError::Connection { .. }) if attempt < TRIES => {
                    tracing::debug!(holder = self.label(), %error, "sent again");
                }
                Err(error) => return Err(Lapse::of_connection(&error)),
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(Lapse::new("holder.connection", "no try was made"))
    }

    fn client(&self, answer_bytes: usize, time: Duration) -> Result<Client, Lapse> {
        let client = self.at.client(self.identity.as_deref());
        let client = client.map_err(|error| Lapse::new("holder.connection", error))?;
        Ok(client.bounded(answer_bytes, time))
    }

    /// Numbers that are good enough after a panic elsewhere.
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`open`], off the threads that serve.
async fn read(
    query: &Arc<Admitted>,
    desk: &Arc<Desk>,
    answer: Answer,
) -> Result<Vec<AnyCiphertext>, Lapse> {
    let (query, desk) = (Arc::clone(query), Arc::clone(desk));
    let read = blocking(move || Ok(open(&query, &desk.contract, &answer))).await;
    read.unwrap_or_else(|fault| Err(Lapse::garbage(fault)))
}

/// The ciphertexts of an answer that is what it should be.
fn open(
    query: &Admitted,
    contract: &Contract,
    answer: &Answer,
) -> Result<Vec<AnyCiphertext>, Lapse> {
    let reply = PredictReply::from_bytes(head_length(answer), &answer.body);
    let reply = reply.map_err(Lapse::garbage)?;
    if reply.id != query.query.question.id {
        return Err(Lapse::garbage("it answers another query"));
    }
    let key = query.keys.keys().key_id();
    let opened = contract.open_reply(&reply.bundle, key);
    let (images, ciphertexts) = opened.map_err(|flaw| Lapse::of_flaw(&flaw))?;
    match images == query.images {
        true => Ok(ciphertexts),
        false => {
            let message = format!("it answers for {images} images of {}", query.images);
            Err(Lapse::new("holder.count", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_may_have_a_name() {
        let read = |text: &str| text.parse::<HolderAddress>();
        let named = read("alpha@10.0.0.1:7001").expect("an address");
        assert_eq!(
            (named.label(), named.address.as_str()),
            ("alpha", "10.0.0.1:7001")
        );
        let bare = read("[::1]:7001").expect("an address");
        assert_eq!((bare.name.clone(), bare.label()), (None, "[::1]:7001"));
        for bad in [
            "",
            "host",
            ":7001",
            "host:x",
            "a b@host:1",
            "@host:1",
            "http://host:1",
            "a@b@c:1",
        ] {
            let found = read(bad).expect_err(bad);
            assert_eq!(found.code(), "ensemble.setting", "{bad}");
        }
    }
}
