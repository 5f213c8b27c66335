//! An encrypted query and its answer in the Open Inference Protocol, version 2, with the extension
//! for binary tensors.
//!
//! A body is a JSON head, as long as the header [`HEAD_LENGTH_HEADER`] says, and one tensor of type
//! `BYTES` with one element behind it: its length as u32, little-endian, and the bytes of a
//! `scuro_client::Bundle`, which are not looked into here. The head of an answer departs from the
//! protocol in one thing: parameters may be lists, for who answered and who did not.
//!
//! A user signs the head in the one form that [`PredictQuery::to_bytes`] writes, without its
//! signature, and the bundle. The head itself may be spelled otherwise: what is read is written
//! anew before it is verified.

use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::hex::{Digest, KeyId, Nonce, QueryId, Signature, UserId};
use crate::limits;
use crate::name::Name;
use crate::user::{Message, UserKey};

/// Header with the bytes of the JSON head.
pub const HEAD_LENGTH_HEADER: &str = "inference-header-content-length";
/// Content type of a whole body.
pub const CONTENT_TYPE: &str = "application/octet-stream";
/// Content type of the tensor's element.
pub const BUNDLE_TYPE: &str = "application/vnd.scuro.bundle";
/// Name of the one model.
pub const MODEL: &str = "ensemble";
/// Name of the one input.
pub const INPUT: &str = "query";
/// Name of the one output.
pub const OUTPUT: &str = "prediction";
/// Type of both tensors.
pub const DATATYPE: &str = "BYTES";

/// Bytes of the length before an element.
const LENGTH: usize = 4;

/// What is asked, and under which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Random name of the query.
    pub id: QueryId,
    /// Secret key that the ciphertexts are under.
    pub key_id: KeyId,
    /// Digest of the encryption parameters.
    pub parameters: Digest,
    /// How predictions are combined; the ensemble's usual way if none is named.
    pub rule: Option<Name>,
    /// Digest of the evaluation keys.
    pub keys: Digest,
    /// Who asks.
    pub user: UserId,
    /// Random, so that no query is like another.
    pub nonce: Nonce,
    /// Milliseconds since 1970 by the user's clock.
    pub time_ms: u64,
}

/// A signed query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictQuery {
    /// What is asked.
    pub question: Question,
    /// The user's signature.
    pub signature: Signature,
    /// The encrypted query, a bundle.
    pub bundle: Bytes,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictReply {
    /// The query.
    pub id: QueryId,
    /// Digest of the ensemble's face.
    pub face: Digest,
    /// How predictions were combined; nothing in the answer of a holder.
    pub rule: Option<Name>,
    /// Whose predictions are in it, in the ensemble's order.
    pub answered: Vec<Answered>,
    /// Who else belongs to the ensemble, and why nothing of them is in it.
    pub left_out: Vec<LeftOut>,
    /// Where the time went.
    pub timings: Timings,
    /// The encrypted reply, a bundle.
    pub bundle: Bytes,
}

/// A holder whose prediction is in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Its name.
    pub holder: String,
    /// Its place in the ensemble, from 0.
    pub place: usize,
    /// Microseconds until its answer was here.
    pub took_us: u64,
}

/// A holder whose prediction is not in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Its name.
    pub holder: String,
    /// Stable name of the reason, `holder.what`.
    pub code: String,
    /// The reason for people.
    pub message: String,
}

/// Where the time of an answer went, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Waiting for a worker.
    pub queue_us: u64,
    /// Computing on ciphertexts; for an ensemble, until the last holder that is waited for.
    pub evaluate_us: u64,
    /// Combining predictions.
    pub combine_us: u64,
}

impl PredictQuery {
    /// Signs a question about a bundle; `question.user` becomes the signer.
    pub fn sign(mut question: Question, bundle: Bytes, user: &UserKey) -> Self {
        question.user = user.id();
        let signature = user.sign(&message(&question, &bundle));
        Self {
            question,
            signature,
            bundle,
        }
    }

    /// Whether the signature is that of the user who is named.
    ///
    /// # Errors
    /// [`WireError::Signature`].
    pub fn verify(&self) -> Result<(), WireError> {
        let message = message(&self.question, &self.bundle);
        self.question.user.verify(&message, &self.signature)
    }

    /// Names the query: the digest of what the user signs, however the head was spelled.
    pub fn digest(&self) -> Digest {
        message(&self.question, &self.bundle).digest()
    }

    /// The body, and the length of its head.
    pub fn to_bytes(&self) -> (usize, Bytes) {
        let head = QueryHead::of(&self.question, Some(self.signature), self.bundle.len());
        join(&head, &self.bundle)
    }

    /// Reads a body; `head_length` is the header's text.
    ///
    /// # Errors
    /// [`WireError`]: the first fault. The signature is not verified.
    pub fn from_bytes(head_length: Option<&str>, body: &Bytes) -> Result<Self, WireError> {
        let (head, tensor) = split::<QueryHead>("head of the query", head_length, body)?;
        let [input] = head.inputs;
        check_word("input", &input.name, INPUT)?;
        check_tensor(&input.datatype, input.shape)?;
        check_word(
            "content type of the input",
            &input.parameters.content_type,
            BUNDLE_TYPE,
        )?;
        let parameters = head.parameters;
        let signature = parameters.signature;
        Ok(Self {
            question: Question {
                id: head.id,
                key_id: input.parameters.key_id,
                parameters: input.parameters.parameters_digest,
                rule: parameters.rule,
                keys: parameters.keys,
                user: parameters.user,
                nonce: parameters.nonce,
                time_ms: parameters.time,
            },
            signature: signature.ok_or(WireError::Empty { what: "signature" })?,
            bundle: element(tensor, input.parameters.binary_data_size)?,
        })
    }
}

impl PredictReply {
    /// The body, and the length of its head.
    pub fn to_bytes(&self) -> (usize, Bytes) {
        let head = ReplyHead {
            model_name: MODEL.to_string(),
            model_version: self.face,
            id: self.id,
            outputs: [Output {
                name: OUTPUT.to_string(),
                shape: [1],
                datatype: DATATYPE.to_string(),
                parameters: OutputParameters {
                    binary_data_size: LENGTH + self.bundle.len(),
                    content_type: BUNDLE_TYPE.to_string(),
                },
            }],
            parameters: ReplyParameters {
                rule: self.rule.clone(),
                answered: self.answered.clone(),
                left_out: self.left_out.clone(),
                timings: self.timings,
            },
        };
        join(&head, &self.bundle)
    }

    /// Reads a body; `head_length` is the header's text.
    ///
    /// # Errors
    /// [`WireError`]: the first fault.
    pub fn from_bytes(head_length: Option<&str>, body: &Bytes) -> Result<Self, WireError> {
        let (head, tensor) = split::<ReplyHead>("head of the answer", head_length, body)?;
        let [output] = head.outputs;
        check_word("model", &head.model_name, MODEL)?;
        check_word("output", &output.name, OUTPUT)?;
        check_tensor(&output.datatype, output.shape)?;
        check_word(
            "content type of the output",
            &output.parameters.content_type,
            BUNDLE_TYPE,
        )?;
        let parameters = head.parameters;
        let holders = parameters.answered.len() + parameters.left_out.len();
        WireError::check_count("holders", holders, limits::HOLDERS)?;
        check_places(&parameters.answered, holders)?;
        Ok(Self {
            id: head.id,
            face: head.model_version,
            rule: parameters.rule,
            answered: parameters.answered,
            left_out: parameters.left_out,
            timings: parameters.timings,
            bundle: element(tensor, output.parameters.binary_data_size)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryHead {
    id: QueryId,
    inputs: [Input; 1],
    parameters: QueryParameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    shape: [u64; 1],
    datatype: String,
    parameters: InputParameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputParameters {
    binary_data_size: usize,
    content_type: String,
    key_id: KeyId,
    parameters_digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Name>,
    keys: Digest,
    user: UserId,
    nonce: Nonce,
    time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyHead {
    model_name: String,
    model_version: Digest,
    id: QueryId,
    outputs: [Output; 1],
    parameters: ReplyParameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    shape: [u64; 1],
    datatype: String,
    parameters: OutputParameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputParameters {
    binary_data_size: usize,
    content_type: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Name>,
    answered: Vec<Answered>,
    left_out: Vec<LeftOut>,
    timings: Timings,
}

impl QueryHead {
    fn of(question: &Question, signature: Option<Signature>, bundle: usize) -> Self {
        Self {
            id: question.id,
            inputs: [Input {
                name: INPUT.to_string(),
                shape: [1],
                datatype: DATATYPE.to_string(),
                parameters: InputParameters {
                    binary_data_size: LENGTH + bundle,
                    content_type: BUNDLE_TYPE.to_string(),
                    key_id: question.key_id,
                    parameters_digest: question.parameters,
                },
            }],
            parameters: QueryParameters {
                rule: question.rule.clone(),
                keys: question.keys,
                user: question.user,
                nonce: question.nonce,
                time: question.time_ms,
                signature,
            },
        }
    }
}

/// What a user signs of a query.
fn message(question: &Question, bundle: &Bytes) -> Message {
    let head = to_json(&QueryHead::of(question, None, bundle.len()));
    Message::query(&Digest::of(&head), &Digest::of(bundle))
}

fn to_json(head: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
    serde_json::to_vec(head).expect("a head is JSON")
}

/// A body of a head and one element.
fn join(head: &impl Serialize, element: &[u8]) -> (usize, Bytes) {
    let mut body = to_json(head);
    let length = body.len();
    body.reserve_exact(LENGTH + element.len());
    body.extend_from_slice(&(element.len() as u32).to_le_bytes());
    body.extend_from_slice(element);
    (length, body.into())
}

/// The head of a body, and the bytes after it.
fn split<Head: serde::de::DeserializeOwned>(
    what: &'static str,
    head_length: Option<&str>,
    body: &Bytes,
) -> Result<(Head, Bytes), WireError> {
    let length = read_length(head_length)?;
    WireError::check_size(what, length, limits::PREDICT_HEAD_BYTES)?;
    let Some(head) = body.get(..length) else {
        return Err(WireError::Truncated {
            offset: 0,
            needed: length,
            available: body.len(),
        });
    };
    Ok((WireError::json(what, head)?, body.slice(length..)))
}

/// The one spelling of a length: decimal digits without a sign.
fn read_length(text: Option<&str>) -> Result<usize, WireError> {
    let text = text.unwrap_or_default();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| digits);
    length.ok_or_else(|| WireError::HeadLength {
        found: text.chars().take(80).collect(),
    })
}

fn check_word(what: &'static str, found: &str, expected: &'static str) -> Result<(), WireError> {
    if found == expected {
        return Ok(());
    }
    Err(WireError::Word {
        what,
        found: found.chars().take(80).collect(),
        expected,
    })
}

fn check_tensor(datatype: &str, [elements]: [u64; 1]) -> Result<(), WireError> {
    check_word("datatype of the tensor", datatype, DATATYPE)?;
    match elements {
        1 => Ok(()),
        found => Err(WireError::Length {
            what: "tensor's shape",
            found,
            expected: 1,
        }),
    }
}

/// Every place is one of so many, and they come in order.
fn check_places(answered: &[Answered], holders: usize) -> Result<(), WireError> {
    let what = "list of holders that answered";
    let ordered = answered.is_sorted_by(|a, b| a.place < b.place);
    let last = answered.last().map_or(0, |last| last.place);
    match ordered && (answered.is_empty() || last < holders) {
        true => Ok(()),
        false => Err(WireError::NotCanonical { what }),
    }
}

/// The element of a tensor that should be `announced` bytes long.
fn element(tensor: Bytes, announced: usize) -> Result<Bytes, WireError> {
    let expect = |what, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(WireError::Length {
            what,
            found: found as u64,
            expected: expected as u64,
        }),
    };
    expect("binary data", tensor.len(), announced)?;
    let Some((length, _)) = tensor.split_first_chunk::<LENGTH>() else {
        return Err(WireError::Truncated {
            offset: 0,
            needed: LENGTH,
            available: tensor.len(),
        });
    };
    let length = u32::from_le_bytes(*length) as usize;
    expect("tensor's element", tensor.len() - LENGTH, length)?;
    WireError::check_size("encrypted bundle", length, limits::PREDICT_BYTES)?;
    if length == 0 {
        return Err(WireError::Empty {
            what: "encrypted bundle",
        });
    }
    Ok(tensor.slice(LENGTH..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserKey {
        UserKey::from_bytes(&UserKey::generate().expect("made")).expect("read")
    }

    fn question() -> Question {
        Question {
            id: QueryId([1; 16]),
            key_id: KeyId([2; 16]),
            parameters: Digest([3; 32]),
            rule: Some(Name::new("mean").expect("a name")),
            keys: Digest([4; 32]),
            user: UserId([0; 32]),
            nonce: Nonce([5; 16]),
            time_ms: 6,
        }
    }

    fn signed() -> PredictQuery {
        PredictQuery::sign(question(), Bytes::from_static(b"a bundle"), &user())
    }

    fn reply() -> PredictReply {
        PredictReply {
            id: QueryId([1; 16]),
            face: Digest([3; 32]),
            rule: None,
            answered: vec![Answered {
                holder: "alpha".to_string(),
                place: 0,
                took_us: 7,
            }],
            left_out: vec![LeftOut {
                holder: "beta".to_string(),
                code: "holder.timeout".to_string(),
                message: "too late".to_string(),
            }],
            timings: Timings::default(),
            bundle: Bytes::from_static(b"a reply"),
        }
    }

    fn read(head: usize, body: Vec<u8>) -> Result<PredictQuery, WireError> {
        PredictQuery::from_bytes(Some(&head.to_string()), &body.into())
    }

    #[test]
    fn a_query_survives_its_bytes_with_a_good_signature() {
        let query = signed();
        let (head, body) = query.to_bytes();
        let found = read(head, body.to_vec()).expect("read");
        assert_eq!(found, query);
        assert_eq!(found.verify(), Ok(()));
    }

    #[test]
    fn an_answer_survives_its_bytes() {
        let (head, body) = reply().to_bytes();
        let found = PredictReply::from_bytes(Some(&head.to_string()), &body);
        assert_eq!(found, Ok(reply()));
    }

    #[test]
    fn places_of_holders_are_in_order_and_those_of_the_ensemble() {
        for places in [vec![2], vec![1, 0], vec![0, 0]] {
            let holder = |&place: &usize| Answered {
                holder: "alpha".to_string(),
                place,
                took_us: 1,
            };
            let mut reply = reply();
            reply.answered = places.iter().map(holder).collect();
            let (head, body) = reply.to_bytes();
            let found = PredictReply::from_bytes(Some(&head.to_string()), &body);
            let refused = matches!(found, Err(WireError::NotCanonical { .. }));
            assert!(refused, "{places:?}");
        }
    }

    #[test]
    fn another_spelling_of_the_head_keeps_its_signature() {
        let (head, body) = signed().to_bytes();
        let text = std::str::from_utf8(&body[..head]).expect("text");
        let spaced = text.replace(':', ": ").replace(',', ",\n ");
        let found = read(spaced.len(), [spaced.as_bytes(), &body[head..]].concat());
        assert_eq!(found.expect("read").verify(), Ok(()));
    }

    #[test]
    fn whatever_is_changed_breaks_the_signature() {
        let query = signed();
        let changes: [fn(&mut PredictQuery); 9] = [
            |q| q.question.id.0[0] ^= 1,
            |q| q.question.key_id.0[0] ^= 1,
            |q| q.question.parameters.0[0] ^= 1,
            |q| q.question.rule = None,
            |q| q.question.keys.0[0] ^= 1,
            |q| q.question.nonce.0[0] ^= 1,
            |q| q.question.time_ms += 1,
            |q| q.signature.0[0] ^= 1,
            |q| q.bundle = Bytes::from_static(b"another!"),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = query.clone();
            change(&mut changed);
            assert!(changed.verify().is_err(), "change {number}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let (head, body) = signed().to_bytes();
        for length in 0..body.len() {
            assert!(read(head, body[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn the_length_of_the_head_has_one_spelling_and_a_limit() {
        let (head, body) = signed().to_bytes();
        for text in [
            None,
            Some(""),
            Some("-1"),
            Some("+9"),
            Some(" 9"),
            Some("x"),
        ] {
            let found = PredictQuery::from_bytes(text, &body);
            assert!(
                matches!(found, Err(WireError::HeadLength { .. })),
                "{text:?}"
            );
        }
        for wrong in [head - 1, head + 1, body.len() + 1] {
            assert!(read(wrong, body.to_vec()).is_err(), "{wrong}");
        }
        let huge = PredictQuery::from_bytes(Some("18446744073709551615"), &body);
        assert!(matches!(huge, Err(WireError::TooLarge { .. })));
        let more = PredictQuery::from_bytes(Some("18446744073709551616"), &body);
        assert!(matches!(more, Err(WireError::HeadLength { .. })));
    }

    #[test]
    fn tensors_are_what_the_head_says() {
        let (head, body) = signed().to_bytes();
        let text = std::str::from_utf8(&body[..head])
            .expect("text")
            .to_string();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            let text = text.replace(from, to);
            read(text.len(), [text.as_bytes(), &body[head..]].concat())
        };
        let words = [
            (r#""name":"query""#, r#""name":"other""#),
            (r#""datatype":"BYTES""#, r#""datatype":"FP32""#),
            (BUNDLE_TYPE, "text/plain"),
        ];
        for (from, to) in words {
            let found = changed(from, to);
            assert!(matches!(found, Err(WireError::Word { .. })), "{found:?}");
        }
        let lengths = [
            (r#""shape":[1]"#, r#""shape":[2]"#),
            (r#""binary_data_size":12"#, r#""binary_data_size":13"#),
        ];
        for (from, to) in lengths {
            let found = changed(from, to);
            assert!(matches!(found, Err(WireError::Length { .. })), "{found:?}");
        }
        let unknown = changed(r#""time":"#, r#""more":1,"time":"#);
        assert!(matches!(unknown, Err(WireError::Json { .. })));
        let twice = changed(r#""time":"#, r#""time":1,"time":"#);
        assert!(matches!(twice, Err(WireError::Json { .. })));
        let mut body = body.to_vec();
        body[head] += 1;
        assert!(matches!(read(head, body), Err(WireError::Length { .. })));
    }
}
