//! Bounds of every message and queue; a peer that goes over one gets status 413 or 429.

use std::time::Duration;

/// Most bytes of one piece of an artefact upload.
pub const CHUNK_BYTES: usize = 4 << 20;
/// Most bytes of one artefact.
pub const ARTEFACT_BYTES: u64 = 16 << 30;
/// Most artefacts of a manifest.
pub const ARTEFACTS: usize = 16;
/// Most bytes of a manifest.
pub const MANIFEST_BYTES: usize = 256 << 10;
/// Most labels of a manifest.
pub const LABELS: usize = 4096;
/// Most bytes of one label.
pub const LABEL_BYTES: usize = 128;
/// Most query registrations in one request.
pub const QUERIES_PER_BATCH: usize = 4096;
/// Most bytes of a body of query registrations.
pub const QUERY_BATCH_BYTES: usize = 2 << 20;
/// Most encrypted inferences in one request.
pub const INFERENCES_PER_BATCH: usize = 1024;
/// Most bytes of one encrypted reply.
pub const REPLY_BYTES: usize = 64 << 20;
/// Most images that one encrypted reply may answer for.
pub const IMAGES_PER_REPLY: usize = 1 << 15;
/// Most bytes of a body of encrypted inferences.
pub const INFERENCE_BATCH_BYTES: usize = 96 << 20;
/// Most bytes of any JSON answer that a client reads.
pub const ANSWER_BYTES: usize = 16 << 20;
/// Most bytes of a set of evaluation keys, as it travels: masks as seeds.
pub const KEY_SET_BYTES: usize = 128 << 20;
/// Most bytes that are read away before a refusal: a body of twice the largest limit still gets an
/// answer instead of a broken connection.
pub const DRAINED_BYTES: usize = 2 * KEY_SET_BYTES;
const _: () = assert!(DRAINED_BYTES >= 2 * INFERENCE_BATCH_BYTES);
/// Most bytes of the JSON head of a query to an ensemble, or of its answer.
pub const PREDICT_HEAD_BYTES: usize = 64 << 10;
/// Most bytes of the ciphertexts of a query to an ensemble, or of its answer.
pub const PREDICT_BYTES: usize = 64 << 20;
/// Most bytes of an ensemble's face.
pub const FACE_BYTES: usize = 16 << 20;
/// Most holders of an ensemble.
pub const HOLDERS: usize = 64;
/// Most bytes of the roster of holders that mask.
pub const ROSTER_BYTES: usize = 64 << 10;
/// Most bytes of what a coordinator sends to have masked predictions released: of 64 holders, 63
/// keys each, in hexadecimal.
pub const RELEASE_BYTES: usize = 512 << 10;
/// Time for which a signed query is good, and by which its clock may be ahead.
pub const QUERY_WINDOW: Duration = Duration::from_secs(300);
/// Most results in one page.
pub const RESULTS_PER_PAGE: usize = 1000;
/// Bytes at which a page of results ends early; one result may go over it.
pub const RESULTS_PAGE_BYTES: usize = 4 << 20;
/// Most deployments in a list.
pub const DEPLOYMENTS: usize = 1000;
/// Connections that a server keeps open.
pub const CONNECTIONS: usize = 256;
/// Most bytes of a PEM file.
pub const PEM_BYTES: u64 = 64 << 10;
/// Time for a TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the head of a request.
pub const REQUEST_HEAD: Duration = Duration::from_secs(30);
/// Time for a client to connect.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Time for a whole request, its body included.
pub const REQUEST: Duration = Duration::from_secs(120);
