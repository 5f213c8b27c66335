//! Names of the device's metrics; docs/reference/edge.md explains them.

/// Frames taken, by source.
pub(super) const FRAMES: &str = "scuro_edge_frames_total";
/// Frames that had been taken before, by source.
pub(super) const DUPLICATES: &str = "scuro_edge_frames_duplicate_total";
/// Frames refused, by source and reason.
pub(super) const REFUSED: &str = "scuro_edge_frames_refused_total";
/// Encrypted inferences made.
pub(super) const INFERENCES: &str = "scuro_edge_inferences_total";
/// Frames and inferences given up, by stage and reason.
pub(super) const DEAD: &str = "scuro_edge_dead_letters_total";
/// Inferences that the vault decrypts no more, whose frames run again; by reason.
pub(super) const RETURNED: &str = "scuro_edge_returned_total";
/// Time of each stage of the pipeline.
pub(super) const STAGE: &str = "scuro_edge_stage_seconds";
/// Queries that the vault knows before their answer is sent.
pub(super) const REGISTERED: &str = "scuro_edge_registered_total";
/// Queries of frames that were given up, which the vault has been told of.
pub(super) const WITHDRAWN: &str = "scuro_edge_withdrawn_total";
/// Inferences that the vault has, by outcome.
pub(super) const SENT: &str = "scuro_edge_sent_total";
/// Failed tries to reach the vault, by reason.
pub(super) const UPLINK_FAILURES: &str = "scuro_edge_uplink_failures_total";
/// Whether the last try to reach the vault succeeded.
pub(super) const UPLINK_UP: &str = "scuro_edge_uplink_up";
/// Whether the folder could be read at the last look, by folder.
pub(super) const FOLDER_UP: &str = "scuro_edge_folder_up";
/// Times that a folder could no longer be read, by folder.
pub(super) const FOLDER_FAILURES: &str = "scuro_edge_folder_failures_total";
/// Whether the topic is subscribed to, by broker and topic.
pub(super) const MQTT_UP: &str = "scuro_edge_mqtt_up";
/// Lost connections and refused subscriptions, by broker, topic and reason.
pub(super) const MQTT_FAILURES: &str = "scuro_edge_mqtt_failures_total";
/// Activations, roll-backs and refusals of deployments, by outcome.
pub(super) const DEPLOYMENTS: &str = "scuro_edge_deployments_total";
/// Pieces of artefacts, by outcome.
pub(super) const ARTEFACTS: &str = "scuro_edge_artefact_pieces_total";
/// What waits: frames, frame bytes, inferences, inference bytes.
pub(super) const DEPTH: &str = "scuro_edge_spool";
/// Quantiles of the time from frame in to encrypted inference on disk.
pub(super) const LATENCY: &str = "scuro_edge_latency_seconds";
/// Why processing rests: 1 while it does, by reason.
pub(super) const RESTING: &str = "scuro_edge_processing_rests";
