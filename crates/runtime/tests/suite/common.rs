//! Networks with seeded weights, and both sides of an encrypted evaluation.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_client::{Client, KeySet, Model, Prediction, Protected, PublicClient};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_nn::graph::{Op, Window};
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, Weights};
use scuro_runtime::encrypted::Prepared;

/// Seeded weights and images.
pub(crate) struct Random(ChaCha20Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound
    }

    pub(crate) fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let count = shape.iter().product();
        let value = |_| (2.0 * self.unit() - 1.0) * scale;
        Tensor::new(shape.to_vec(), (0..count).map(value).collect()).unwrap()
    }

    pub(crate) fn dense(&mut self, outputs: usize, inputs: usize) -> Op {
        let weight = self.tensor(&[outputs, inputs], (3.0 / inputs as f32).sqrt());
        let bias = Some(self.tensor(&[outputs], 0.2));
        Op::Dense { weight, bias }
    }

    pub(crate) fn conv(&mut self, maps: usize, depth: usize, window: Window, groups: usize) -> Op {
        let [height, width] = window.kernel;
        let fan_in = (depth / groups * height * width) as f32;
        let shape = [maps, depth / groups, height, width];
        let weight = self.tensor(&shape, (3.0 / fan_in).sqrt());
        let (bias, dilation) = (Some(self.tensor(&[maps], 0.2)), [1, 1]);
        Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        }
    }
}

/// Both sides of an encrypted evaluation, with fresh keys.
pub(crate) struct Deployment {
    pub(crate) client: Client,
    /// Encrypts where the evaluator has no secret key.
    pub(crate) public: Option<PublicClient>,
    pub(crate) keys: EvaluationKeys,
    pub(crate) prepared: Prepared,
    pub(crate) rng: ChaCha20Rng,
}

impl Deployment {
    pub(crate) fn new(program: &Program) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        if program.weights == Weights::Plain {
            let model = Model::new(program.clone()).unwrap();
            let keys = KeySet::generate(&model, &mut rng).unwrap();
            return Self {
                client: Client::new(&model, keys.secret).unwrap(),
                public: None,
                keys: keys.evaluation,
                prepared: Prepared::new(model.program(), model.scheme().clone()).unwrap(),
                rng,
            };
        }
        let Protected {
            model,
            weights,
            keys,
        } = Protected::new(program, &mut rng).unwrap();
        let weights = model.open_weights(weights).unwrap();
        let scheme = model.scheme().clone();
        Self {
            client: Client::new(&model, keys.secret).unwrap(),
            keys: keys
                .evaluation
                .with_public_key(keys.public.clone())
                .unwrap(),
            public: Some(PublicClient::new(&model, keys.public)),
            prepared: Prepared::with_weights(model.program(), scheme, weights).unwrap(),
            rng,
        }
    }

    pub(crate) fn encrypt(&mut self, image: &Tensor) -> Vec<AnyCiphertext> {
        self.encrypt_all(&[&image.data])
    }

    /// One query with all the images.
    pub(crate) fn encrypt_all(&mut self, images: &[&[f32]]) -> Vec<AnyCiphertext> {
        let rng = &mut self.rng;
        let query = match &self.public {
            Some(public) => public.encrypt(images, rng).unwrap(),
            None => self.client.encrypt(images, rng).unwrap(),
        };
        let mut runs = self.client.model().open_query(&query).unwrap();
        assert_eq!(runs.len(), 1);
        runs.remove(0)
    }

    pub(crate) fn decrypt(&self, reply: Vec<AnyCiphertext>) -> Vec<f64> {
        self.decrypt_all(reply, 1).remove(0)
    }

    pub(crate) fn decrypt_all(&self, reply: Vec<AnyCiphertext>, images: usize) -> Vec<Vec<f64>> {
        let predictions = self.predictions(reply, images).into_iter();
        predictions.map(|p| p.scores).collect()
    }

    /// Scores of each image, and whether they mean anything.
    pub(crate) fn predictions(&self, reply: Vec<AnyCiphertext>, images: usize) -> Vec<Prediction> {
        let reply = self.client.model().reply(images as u32, &[reply]).unwrap();
        self.client.decrypt(&reply).unwrap()
    }

    pub(crate) fn evaluate(&self, query: &[AnyCiphertext]) -> Vec<AnyCiphertext> {
        let (prepared, keys) = (&self.prepared, &self.keys);
        prepared.evaluate(keys, query, 1, &mut |_| {}).unwrap()
    }

    /// The scores of the encrypted backend.
    pub(crate) fn scores_of_all(&mut self, images: &[&[f32]]) -> Vec<Vec<f64>> {
        let query = self.encrypt_all(images);
        self.decrypt_all(self.evaluate(&query), images.len())
    }

    /// All slots of a reply, in units of the scores.
    pub(crate) fn reveal(&self, program: &Program, reply: &[AnyCiphertext]) -> Vec<f64> {
        let primes = self.client.model().context().parameters().q();
        let scales = program.scales(&program.validate().unwrap(), primes);
        let scale = scales[program.result.0 as usize];
        let slots = |c| self.client.reveal(c, scale).unwrap();
        let slots = reply.iter().flat_map(slots);
        slots.map(|slot| slot * program.output.factor).collect()
    }
}
