//! `scuro ensemble query digit.png --coordinator HOST:PORT`
//!
//! The face that the coordinator sends says how to encrypt; keys are made for it once and kept. The
//! folder of keys names the face that they are for, so that another ensemble gets keys of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use scuro_client::{Bundle, Client, KeySet, Model, Prediction};
use scuro_ensemble::{RuleKind, Rules};
use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::owner::SecretKey;
use scuro_program::Program;
use scuro_server::ensemble::combine;
use scuro_server::ensemble::coordinator::HolderAddress;
use scuro_wire::ensemble::Caller;
use scuro_wire::predict::{Answered, LeftOut, PredictQuery, PredictReply, Question};
use scuro_wire::tls::Identity;
use scuro_wire::user::UserKey;
use scuro_wire::{Digest, KeyId, Name, Nonce, QueryId, WireError};
use serde_json::{Value, json};

use crate::compiled::{self, Compiled};
use crate::context::Context;
use crate::errors::{At, Exit, Failure};
use crate::files::{self, Access, Overwrite};
use crate::output::Reply;
use crate::progress::Progress;
use crate::verbs::holder::identity;
use crate::verbs::{decrypt, keygen, predict};
use crate::{secrets, services, units};

/// File of the user's signing key.
const USER: &str = "user.key";
/// Code of an answer that cannot be read because a holder dropped out of a masked sum: a query that
/// is signed anew is answered by those that remain.
const MASKS: &str = "ensemble.masks";
/// How often a query is signed anew.
const TRIES: u32 = 3;
/// The usual folder of keys.
const KEYS: &str = "ensemble-keys";

/// Arguments of `scuro ensemble query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Picture (PNG or JPEG), any size.
    image: PathBuf,
    /// The coordinator, or a single holder.
    #[arg(long, value_name = "[NAME@]HOST:PORT")]
    coordinator: HolderAddress,
    /// How predictions are combined [default: as the coordinator does].
    #[arg(long)]
    rule: Option<Name>,
    /// Folder of secret.key, evaluation.keys, public.key and user.key; made if they are not there.
    #[arg(long, value_name = "DIR", default_value = KEYS)]
    keys: PathBuf,
    /// Certificates of this user, from `scuro vault enroll`; mutual TLS from then on.
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

/// Asks.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let identity = identity(arguments.identity.as_deref())?;
    let runtime = services::runtime()?;
    let mut caller = caller(&arguments.coordinator, identity.as_ref())?;
    let face = runtime.block_on(caller.face())?;
    let program = Program::from_bytes(&face).at("the face")?;
    let compiled = compiled::from_program(program, &Default::default()).at("the face")?;
    let image = compiled.input(&predict::read_picture(&arguments.image, &compiled)?)?;
    let user = User::open(&arguments.keys, &compiled.model, context)?;
    let progress = Progress::spinner(context, "the holders compute on ciphertexts");
    let start = Instant::now();
    let mut tries = 1..=TRIES;
    let (query, reply, rules) = loop {
        let query = user.query(&compiled.model, &image, arguments.rule.clone())?;
        match runtime.block_on(ask(&mut caller, &user, &compiled.model, &query)) {
            Err(WireError::Refused { problem, .. })
                if problem.code == MASKS && tries.next().is_some() =>
            {
                context.detail(format!("asked anew: {problem}"));
            }
            answered => {
                let (reply, rules) = answered?;
                break (query, reply, rules);
            }
        }
    };
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    drop(progress);
    let opened = user.read(&query, &reply, rules.as_deref())?;
    Ok(answer(context, &compiled, &reply, &opened, milliseconds))
}

/// What an answer says.
pub(crate) struct Opened {
    pub(crate) prediction: Prediction,
    /// What each holder that answered says, if that could be decrypted.
    votes: Option<Vec<Prediction>>,
}

/// A connection to the coordinator.
pub(crate) fn caller(
    address: &HolderAddress,
    identity: Option<&Identity>,
) -> Result<Caller, Failure> {
    Ok(Caller::new(address.client(identity)?))
}

/// Asks, and sends the keys first if they are not there; the answer, and the rules that it was made
/// by if they have parameters.
pub(crate) async fn ask(
    caller: &mut Caller,
    user: &User,
    model: &Model,
    query: &PredictQuery,
) -> Result<(PredictReply, Option<Vec<u8>>), WireError> {
    let reply = match caller.predict(query).await {
        Err(WireError::Refused { problem, .. }) if problem.code == "keys.unknown" => {
            let face = Digest(model.digest());
            let keys = user.evaluation.clone().into();
            caller.put_keys(keys, &face, &user.sign).await?;
            caller.predict(query).await?
        }
        answered => answered?,
    };
    let fitted = |rule: &Name| rule.as_str().parse().is_ok_and(RuleKind::is_fitted);
    let rules = match reply.rule.as_ref().is_some_and(fitted) {
        true => caller.rules().await?,
        false => None,
    };
    Ok((reply, rules.map(Vec::from)))
}

/// The keys of a user.
pub(crate) struct User {
    client: Client,
    key_id: KeyId,
    evaluation: Vec<u8>,
    sign: UserKey,
}

impl User {
    /// The keys in a folder, made if they are not there.
    pub(crate) fn open(folder: &Path, model: &Model, context: &Context) -> Result<Self, Failure> {
        let [secret, evaluation] = [keygen::SECRET, keygen::EVALUATION].map(|f| folder.join(f));
        if !secret.exists() {
            let spinner = Progress::spinner(context, "making keys");
            make(folder, model)?;
            drop(spinner);
            context.note(format!("made keys in {}", folder.display()));
        }
        let bytes = files::read_secret(&secret)?;
        let opened = SecretKey::from_bytes(&bytes, model.context()).at(secret.display())?;
        let client = Client::new(model, Arc::new(opened)).at(secret.display())?;
        let bytes = files::read(&evaluation)?;
        let keys = EvaluationKeys::from_bytes(&bytes, model.context()).at(evaluation.display())?;
        Ok(Self {
            client,
            key_id: KeyId(keys.key_id().0),
            evaluation: bytes,
            sign: signing_key(&folder.join(USER))?,
        })
    }

    /// A picture, encrypted and signed.
    pub(crate) fn query(
        &self,
        model: &Model,
        image: &[f32],
        rule: Option<Name>,
    ) -> Result<PredictQuery, Failure> {
        let bundle = self.client.encrypt(&[image], &mut secrets::generator()?)?;
        let question = Question {
            id: QueryId(random()?),
            key_id: self.key_id,
            parameters: Digest(model.scheme().digest().0),
            rule,
            keys: Digest::of(&self.evaluation),
            user: self.sign.id(),
            nonce: Nonce(random()?),
            time_ms: now_ms(),
        };
        let bundle = bundle.to_bytes().into();
        Ok(PredictQuery::sign(question, bundle, &self.sign))
    }

    /// Decrypts the answer to a query.
    pub(crate) fn read(
        &self,
        query: &PredictQuery,
        reply: &PredictReply,
        rules: Option<&[u8]>,
    ) -> Result<Opened, Failure> {
        let asked = &query.question.rule;
        if reply.id != query.question.id || asked.is_some() && *asked != reply.rule {
            return Err(refuse("the answer is to another query"));
        }
        let bundle = Bundle::from_bytes(&reply.bundle).at("the answer")?;
        let majority = |rule: &Name| rule.as_str() == RuleKind::Majority.as_str();
        if reply.rule.as_ref().is_some_and(majority) {
            let model = combine::vote_model(self.client.model().program());
            let client = self
                .client
                .with_model(&model.map_err(scuro_server::Error::from)?)?;
            let votes = client.decrypt(&bundle).at("the answer")?;
            let prediction = combine::majority(&bundle, &votes, reply.answered.len());
            return Ok(Opened {
                prediction: prediction.map_err(scuro_server::Error::from)?,
                votes: Some(votes),
            });
        }
        let combined = self.combined(reply, rules)?;
        let client = combined.as_ref().unwrap_or(&self.client);
        let mut predictions = client.decrypt(&bundle).at("the answer")?;
        match (predictions.pop(), predictions.is_empty()) {
            (Some(prediction), true) => Ok(Opened {
                prediction,
                votes: None,
            }),
            _ => Err(refuse("the answer is not for one image")),
        }
    }

    /// The client that reads what the coordinator says to have computed; nothing for the answer of
    /// a single holder.
    fn combined(
        &self,
        reply: &PredictReply,
        rules: Option<&[u8]>,
    ) -> Result<Option<Client>, Failure> {
        let Some(name) = &reply.rule else {
            return Ok(None);
        };
        let rules = rules.map(Rules::from_bytes).transpose();
        let rules = rules.map_err(|error| refuse(&error.to_string()))?;
        let present: Vec<usize> = reply.answered.iter().map(|a| a.place).collect();
        let holders = reply.answered.len() + reply.left_out.len();
        let face = self.client.model().program();
        let model = combine::rule(rules.as_ref(), name.as_str())
            .and_then(|rule| combine::model(face, &rule, &present, holders));
        let model = model.map_err(scuro_server::Error::from)?;
        Ok(Some(self.client.with_model(&model)?))
    }
}

/// An answer that is not what it should be.
fn refuse(message: &str) -> Failure {
    let failure = Failure::new(Exit::Refused, "ensemble.answer", message);
    failure.hint("ask again; if it stays so, the coordinator is not to be trusted")
}

/// Makes keys and writes all files or none.
fn make(folder: &Path, model: &Model) -> Result<(), Failure> {
    let paths = [keygen::PUBLIC, keygen::EVALUATION, keygen::SECRET].map(|f| folder.join(f));
    for path in &paths {
        files::refuse_existing(path, Overwrite::Refuse)?;
    }
    let keys = KeySet::generate(model, &mut secrets::generator()?)?;
    let public = keys.public.to_bytes(model.context());
    let set = keys.evaluation.with_public_key(keys.public)?;
    let evaluation = set.to_bytes(model.context());
    let secret = keys.secret.to_bytes();
    let contents = [
        (&public[..], Access::Shared),
        (&evaluation, Access::Secret),
        (&secret, Access::Secret),
    ];
    keygen::write_all(&paths, contents, Overwrite::Refuse)
}

fn signing_key(path: &Path) -> Result<UserKey, Failure> {
    let bytes = secrets::key_file(path, UserKey::generate)?;
    UserKey::from_bytes(&bytes).at(path.display())
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    rand_core::Rng::fill_bytes(&mut secrets::generator()?, &mut bytes);
    Ok(bytes)
}

/// Milliseconds since 1970; 0 for a clock before it.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn answer(
    context: &Context,
    compiled: &Compiled,
    reply: &PredictReply,
    opened: &Opened,
    milliseconds: f64,
) -> Reply {
    let (prediction, classes) = (&opened.prediction, compiled.model.program().classes());
    let class = classes.get(prediction.label).copied();
    let mut data = decrypt::row(0, prediction);
    data["class"] = json!(class);
    data["rule"] = json!(reply.rule);
    data["answered"] = json!(reply.answered);
    data["left_out"] = json!(reply.left_out);
    data["timings"] = json!(reply.timings);
    data["milliseconds"] = json!(milliseconds);
    let label = prediction.label.to_string();
    let shown = class.unwrap_or(&label);
    let mut human = format!(
        "{}  confidence {}  ({} ms)\n",
        context.style.bold(shown),
        units::percent(prediction.confidence),
        units::significant(milliseconds),
    );
    if prediction.overflowed {
        human.push_str("The answer means nothing: values grew beyond the modulus.\n");
    }
    if let Some(votes) = &opened.votes {
        let cast: Vec<(&str, &Prediction)> = reply
            .answered
            .iter()
            .map(|answered| answered.holder.as_str())
            .zip(votes)
            .collect();
        let vote = |(holder, vote): &(&str, &Prediction)| {
            let class = classes.get(vote.label).copied();
            json!({ "holder": holder, "label": vote.label, "class": class })
        };
        data["votes"] = cast.iter().map(vote).collect();
        human.push_str(&ballot(&cast, &classes));
    }
    human.push_str(&who(&reply.answered, &reply.left_out));
    let rows: Vec<Value> = vec![data.clone()];
    Reply::new(data, human).with_rows(rows)
}

/// Who voted for what, for people.
fn ballot(cast: &[(&str, &Prediction)], classes: &[&str]) -> String {
    let vote = |(holder, vote): &(&str, &Prediction)| {
        let label = vote.label.to_string();
        format!(
            "{holder} {}",
            classes.get(vote.label).unwrap_or(&label.as_str())
        )
    };
    let votes: Vec<String> = cast.iter().map(vote).collect();
    format!(
        "single votes, revealed by this rule: {}\n",
        votes.join(", ")
    )
}

/// Who answered and who did not, for people.
fn who(answered: &[Answered], left_out: &[LeftOut]) -> String {
    let names: Vec<&str> = answered.iter().map(|a| a.holder.as_str()).collect();
    let mut text = format!("answered: {}\n", names.join(", "));
    for LeftOut {
        holder,
        code,
        message,
    } in left_out
    {
        text.push_str(&format!("left out: {holder}: {message} ({code})\n"));
    }
    text
}
