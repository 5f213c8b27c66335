//! One deployed version of a model, ready to process frames.

use scuro_client::{Bundle, Model, PublicClient};
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use scuro_fhe::{AnyCiphertext, codec};
use scuro_nn::data::{Prepared as Preprocessing, Preprocess};
use scuro_nn::graph::Graph;
use scuro_nn::reference::Executor;
use scuro_runtime::encrypted::Prepared;
use scuro_wire::{Digest, KeyId, Manifest, Role};

use super::artefacts::Artefacts;
use super::frame::{FrameFault, Layout};
use crate::error::Error;

/// Most frames that are gathered into one query.
pub const FRAMES_PER_QUERY: usize = 64;

/// A version that is loaded: its program, its keys, its clear feature extractor.
#[derive(Debug)]
pub struct Version {
    manifest: Manifest,
    deployment: Digest,
    model: Model,
    prepared: Prepared,
    evaluation: EvaluationKeys,
    encryptor: PublicClient,
    features: Option<Graph>,
    layout: Layout,
    preprocessing: Preprocessing,
}

impl Version {
    /// Loads what a manifest lists and checks that all of it belongs together.
    ///
    /// # Errors
    /// [`Error::ArtefactMissing`], [`Error::ArtefactBytes`], [`Error::ArtefactDigest`],
    /// [`Error::Parameters`], [`Error::ForeignKey`], [`Error::Features`], [`Error::Packing`],
    /// or the fault of a part that cannot be read.
    pub fn load(artefacts: &Artefacts, manifest: &Manifest) -> Result<Self, Error> {
        let bytes = |role| match manifest.artefact(role) {
            Some(artefact) => artefacts.read(artefact).map(Some),
            None => Ok(None),
        };
        let needed = |role: Role| {
            bytes(role)?.ok_or(Error::ArtefactMissing {
                role: role.as_str(),
                digest: manifest.digest(),
            })
        };
        let model = Model::open(&needed(Role::Program)?)?;
        check_parameters(manifest, "program", Digest(model.context().digest().0))?;
        let (found, limit) = (model.images_per_run(), FRAMES_PER_QUERY);
        if found > limit {
            return Err(Error::Packing { found, limit });
        }
        let evaluation = evaluation_keys(manifest, &model, &needed(Role::EvaluationKeys)?)?;
        let public = public_key(manifest, &model, &needed(Role::PublicKey)?)?;
        let prepared = prepare(manifest, &model, bytes(Role::Weights)?.as_deref())?;
        prepared.check_keys(&evaluation)?;
        let features = match bytes(Role::Features)? {
            Some(onnx) => Some(features(&model, &onnx)?),
            None => None,
        };
        let (layout, preprocessing) = layout(&model, features.as_ref())?;
        Ok(Self {
            deployment: manifest.digest(),
            manifest: manifest.clone(),
            encryptor: PublicClient::new(&model, public),
            model,
            prepared,
            evaluation,
            features,
            layout,
            preprocessing,
        })
    }

    /// What it was loaded from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest of the manifest.
    pub fn deployment(&self) -> Digest {
        self.deployment
    }

    /// What it takes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Most frames of one query.
    pub(super) fn frames_per_query(&self) -> usize {
        self.model.images_per_run()
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(super) fn evaluation(&self) -> &EvaluationKeys {
        &self.evaluation
    }

    pub(super) fn encryptor(&self) -> &PublicClient {
        &self.encryptor
    }

    pub(super) fn features(&self) -> Option<&Graph> {
        self.features.as_ref()
    }

    /// The network's input for the pixels of a frame.
    ///
    /// # Errors
    /// [`FrameFault::Length`]: the frame was accepted under a version of another size.
    pub(super) fn preprocess(&self, pixels: &[u8]) -> Result<Vec<f32>, FrameFault> {
        let (found, expected) = (pixels.len(), self.layout.elements());
        if found != expected {
            return Err(FrameFault::Length { found, expected });
        }
        let mut input = vec![0.0; expected];
        self.preprocessing.fill(pixels, &mut input);
        Ok(input)
    }
}

/// The program with its weights, encrypted ones from their own artefact.
fn prepare(manifest: &Manifest, model: &Model, weights: Option<&[u8]>) -> Result<Prepared, Error> {
    let scheme = model.scheme().clone();
    let Some(bytes) = weights else {
        return Ok(Prepared::new(model.program(), scheme)?);
    };
    let bundle = Bundle::from_bytes(bytes).map_err(scuro_client::Error::from)?;
    let first = bundle.ciphertexts.first();
    let first = first.map(|bytes| AnyCiphertext::from_bytes(bytes, model.scheme()));
    let first = first.transpose().map_err(scuro_client::Error::from)?;
    let weights = model.open_weights(bundle)?;
    // All of them are under one key, or they are refused when they are read.
    if let Some(first) = first {
        check_key(manifest, Role::Weights.as_str(), KeyId(first.key_id().0))?;
    }
    Ok(Prepared::with_weights(model.program(), scheme, weights)?)
}

fn check_parameters(manifest: &Manifest, role: &'static str, found: Digest) -> Result<(), Error> {
    let expected = manifest.parameters;
    if found == expected {
        return Ok(());
    }
    Err(Error::Parameters {
        role,
        found,
        expected,
    })
}

fn check_key(manifest: &Manifest, role: &'static str, found: KeyId) -> Result<(), Error> {
    let expected = manifest.key_id;
    if found == expected {
        return Ok(());
    }
    Err(Error::ForeignKey {
        role,
        found,
        expected,
    })
}

/// The parameter digest of a key, before anything costly is done with it.
fn described(bytes: &[u8]) -> Result<Digest, Error> {
    let description = codec::describe(bytes).map_err(scuro_fhe::Error::from);
    let description = description.map_err(scuro_client::Error::from)?;
    Ok(Digest(description.parameters.0))
}

fn evaluation_keys(
    manifest: &Manifest,
    model: &Model,
    bytes: &[u8],
) -> Result<EvaluationKeys, Error> {
    let role = Role::EvaluationKeys.as_str();
    check_parameters(manifest, role, described(bytes)?)?;
    let keys = EvaluationKeys::from_bytes(bytes, model.context());
    let keys = keys.map_err(scuro_client::Error::from)?;
    check_key(manifest, role, KeyId(keys.key_id().0))?;
    Ok(keys)
}

fn public_key(manifest: &Manifest, model: &Model, bytes: &[u8]) -> Result<PublicKey, Error> {
    let role = Role::PublicKey.as_str();
    check_parameters(manifest, role, described(bytes)?)?;
    let key = PublicKey::from_bytes(bytes, model.context());
    let key = key.map_err(scuro_client::Error::from)?;
    check_key(manifest, role, KeyId(key.key_id().0))?;
    Ok(key)
}

/// The clear feature extractor, if its output is what the program takes.
fn features(model: &Model, onnx: &[u8]) -> Result<Graph, Error> {
    let graph = scuro_nn::import::onnx::from_bytes(onnx)?;
    let found = Executor::new(&graph)?.output_shape().iter().product();
    let expected = model.program().input.elements();
    if found != expected {
        return Err(Error::Features { found, expected });
    }
    Ok(graph)
}

/// What frames look like, and how their pixels become inputs: by the notes of the program.
fn layout(model: &Model, features: Option<&Graph>) -> Result<(Layout, Preprocessing), Error> {
    let program = model.program();
    let network: Vec<usize> = match features {
        Some(graph) => graph.input_shape().to_vec(),
        None => program
            .input
            .shape
            .iter()
            .map(|&extent| extent as usize)
            .collect(),
    };
    let preprocess = Preprocess::from_notes(|name| program.note(name))?;
    let channels = preprocess.mean.len().max(preprocess.std.len()).max(1);
    let image = image_shape(&network, channels);
    let preprocessing = preprocess.prepare(image, &network)?;
    Ok((Layout { image }, preprocessing))
}

/// Channels, height and width of a network's input: channels go first or last, a matrix is gray, a
/// vector is a row of `channels` channels.
fn image_shape(network: &[usize], channels: usize) -> [usize; 3] {
    match *network {
        [c @ (1 | 3), h, w] => [c, h, w],
        [h, w, c @ (1 | 3)] => [c, h, w],
        [c, h, w] => [c, h, w],
        [h, w] => [1, h, w],
        _ => {
            let elements: usize = network.iter().product();
            [channels, 1, elements / channels]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_networks_give_shapes_of_images() {
        assert_eq!(image_shape(&[1, 28, 28], 1), [1, 28, 28]);
        assert_eq!(image_shape(&[32, 32, 3], 3), [3, 32, 32]);
        assert_eq!(image_shape(&[28, 28], 1), [1, 28, 28]);
        assert_eq!(image_shape(&[3072], 3), [3, 1, 1024]);
        assert_eq!(image_shape(&[784], 1), [1, 1, 784]);
    }
}
