//! Both sides of an encrypted evaluation in one process, with fresh keys: to score, to try, to
//! measure.

use scuro_client::{Bundle, Client, KeySet, Model, Protected, PublicClient};
use scuro_program::Weights;

use crate::errors::Failure;
use crate::evaluator::Evaluator;
use crate::secrets;

/// Key holder and evaluator of one model.
#[derive(Debug)]
pub(crate) struct Session {
    /// Decrypts.
    pub(crate) client: Client,
    /// Computes.
    pub(crate) evaluator: Evaluator,
    /// Encrypts for a private model, whose evaluator has no secret key.
    public: Option<PublicClient>,
}

impl Session {
    /// Makes keys; for a private model, encrypts its weights too.
    pub(crate) fn new(model: &Model, threads: usize) -> Result<Self, Failure> {
        let mut rng = secrets::generator()?;
        if model.program().weights == Weights::Private {
            let protected = Protected::new(model.program(), &mut rng)?;
            return Self::protected(protected, threads);
        }
        let keys = KeySet::generate(model, &mut rng)?;
        Ok(Self {
            client: Client::new(model, keys.secret)?,
            evaluator: Evaluator::new(model.clone(), keys.evaluation, threads)?,
            public: None,
        })
    }

    fn protected(protected: Protected, threads: usize) -> Result<Self, Failure> {
        let Protected {
            model,
            weights,
            keys,
        } = protected;
        // Replies to features in clear are re-randomised.
        let evaluation = keys.evaluation.with_public_key(keys.public.clone())?;
        Ok(Self {
            client: Client::new(&model, keys.secret)?,
            public: Some(PublicClient::new(&model, keys.public)),
            evaluator: Evaluator::with_weights(model, evaluation, weights, threads)?,
        })
    }

    /// The model as the evaluator has it.
    pub(crate) fn model(&self) -> &Model {
        self.client.model()
    }

    /// Encrypts as whoever has the data does.
    pub(crate) fn encrypt(&self, images: &[&[f32]]) -> Result<Bundle, Failure> {
        let mut rng = secrets::generator()?;
        Ok(match &self.public {
            Some(public) => public.encrypt(images, &mut rng)?,
            None => self.client.encrypt(images, &mut rng)?,
        })
    }
}
