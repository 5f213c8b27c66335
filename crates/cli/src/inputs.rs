//! Arguments about data that several verbs share, and what they mean.

use std::path::{Path, PathBuf};

use scuro_nn::data::{self, Dataset, DatasetName, Preprocess};
use scuro_nn::graph::Graph;
use scuro_nn::tensor::Tensor;
use serde_json::{Value, json};

use crate::context::Context;
use crate::data::search_path;
use crate::errors::Failure;

/// How pixels become the network's inputs: `(pixel * scale - mean) / std`, where images may be
/// standardised after scaling. What is given here holds alone; else what the network's file notes;
/// else pixels of 0..1.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct InputArguments {
    /// Factor for pixels of 0..255, as number or fraction [default: 1/255].
    #[arg(long, value_name = "S", value_parser = fraction)]
    pub(crate) input_scale: Option<f32>,
    /// Subtracted after scaling: one value, or one a channel.
    #[arg(long, value_name = "M", num_args = 1.., value_delimiter = ',')]
    #[arg(allow_negative_numbers = true)]
    pub(crate) mean: Vec<f32>,
    /// Divides after the mean: one value, or one a channel.
    #[arg(long, value_name = "S", num_args = 1.., value_delimiter = ',')]
    pub(crate) std: Vec<f32>,
    /// Gives every image mean 0 and deviation 1 after scaling, as
    /// tf.image.per_image_standardization; less than 1 where its deviation is below FLOOR.
    #[arg(long, value_name = "FLOOR", num_args = 0..=1, default_missing_value = "0")]
    #[arg(require_equals = true)]
    pub(crate) standardize: Option<f32>,
    /// Height and width to shrink images to by block means (taken from the network if not given).
    #[arg(long, value_name = "PIXELS")]
    pub(crate) resize: Option<usize>,
}

impl InputArguments {
    /// Whether nothing was given.
    pub(crate) fn is_default(&self) -> bool {
        self.input_scale.is_none()
            && self.mean.is_empty()
            && self.std.is_empty()
            && self.standardize.is_none()
    }

    /// The preprocessing for a network whose file notes `noted`.
    pub(crate) fn preprocess(&self, noted: Option<&Preprocess>) -> Preprocess {
        let usual = Preprocess::default();
        if self.is_default() {
            return noted.cloned().unwrap_or(usual);
        }
        let or = |given: &[f32], usual: Vec<f32>| {
            if given.is_empty() {
                usual
            } else {
                given.to_vec()
            }
        };
        Preprocess {
            scale: self.input_scale.unwrap_or(usual.scale),
            mean: or(&self.mean, usual.mean),
            std: or(&self.std, usual.std),
            standardize: self.standardize,
        }
    }

    /// Labelled images as a trainer takes them, for `network` or one that is made for them.
    pub(crate) fn examples(
        &self,
        data: &Dataset,
        network: Option<&Graph>,
    ) -> Result<scuro_train::Examples, Failure> {
        let shape = network.map_or(&data.shape[..], Graph::input_shape);
        self.check_resize(shape)?;
        let noted = network.and_then(|graph| graph.preprocess.as_ref());
        let preprocess = self.preprocess(noted);
        Ok(scuro_train::Examples::prepared(data, &preprocess, shape)?)
    }

    /// Refuses a `--resize` that is not the network's size.
    pub(crate) fn check_resize(&self, network: &[usize]) -> Result<(), Failure> {
        match self.resize {
            Some(side) if !network.contains(&side) && network.len() > 1 => {
                let message = format!("--resize {side}, but the network takes {network:?}");
                Err(Failure::bad_input("input.resize", message)
                    .hint("leave --resize out: the size is taken from the network"))
            }
            _ => Ok(()),
        }
    }
}

/// The preprocessing as JSON.
pub(crate) fn to_json(preprocess: &Preprocess) -> Value {
    let Preprocess {
        scale,
        mean,
        std,
        standardize,
    } = preprocess;
    json!({ "scale": scale, "mean": mean, "std": std, "standardize": standardize })
}

/// The flags that give a preprocessing; none for the usual pixels.
pub(crate) fn flags(preprocess: &Preprocess) -> Option<String> {
    let list = |values: &[f32]| {
        let values: Vec<String> = values.iter().map(f32::to_string).collect();
        values.join(",")
    };
    let usual = Preprocess::default();
    let Preprocess {
        scale, mean, std, ..
    } = preprocess;
    let given = [
        (*scale != usual.scale).then(|| format!("--input-scale={scale}")),
        (*mean != usual.mean).then(|| format!("--mean={}", list(mean))),
        (*std != usual.std).then(|| format!("--std={}", list(std))),
        preprocess.standardize.map(|floor| match floor {
            0.0 => "--standardize".to_string(),
            _ => format!("--standardize={floor}"),
        }),
    ];
    let flags: Vec<String> = given.into_iter().flatten().collect();
    (!flags.is_empty()).then(|| flags.join(" "))
}

/// `0.00392`, or `1/255`.
fn fraction(text: &str) -> Result<f32, String> {
    let number = |part: &str| {
        part.trim()
            .parse::<f64>()
            .map_err(|error| error.to_string())
    };
    let value = match text.split_once('/') {
        Some((above, below)) => number(above)? / number(below)?,
        None => number(text)?,
    };
    if value.is_finite() {
        Ok(value as f32)
    } else {
        Err("not a finite number".into())
    }
}

/// Loads `mnist`, `mnist:train`, `generated`, ..., or the same below a folder: `DIR/mnist:test`.
pub(crate) fn load(
    context: &Context,
    name: &str,
    limit: Option<usize>,
) -> Result<Dataset, Failure> {
    let (folder, name) = match name.rsplit_once('/') {
        Some((folder, name)) => (Some(PathBuf::from(folder)), name),
        None => (None, name),
    };
    let name: DatasetName = name.parse()?;
    if limit == Some(0) {
        let message = format!("no image of {name} was asked for");
        return Err(Failure::bad_input("input.none", message).hint("ask for at least one"));
    }
    // A folder that was named is the only one meant: other data would be scored unnoticed.
    let search = folder.map_or_else(|| search_path(context), |folder| vec![folder]);
    Ok(data::load(name, &search, limit)?)
}

/// The training part of the data set that `name` is a part of, if it is there.
pub(crate) fn training_part(context: &Context, name: &str) -> Option<String> {
    let whole = name.split_once(':').map_or(name, |(whole, _)| whole);
    let training = format!("{whole}:train");
    load(context, &training, Some(1)).ok().map(|_| training)
}

/// MNIST's test set if it is on this machine, else generated digits.
pub(crate) fn digits(context: &Context, limit: usize) -> Result<Dataset, Failure> {
    match load(context, "mnist:test", Some(limit)) {
        Ok(data) => Ok(data),
        Err(failure) => {
            context.note(format!("{failure}: using generated digits"));
            load(context, "generated:test", Some(limit))
        }
    }
}

/// A data set ready for a network: images as the network's inputs.
#[derive(Debug)]
pub(crate) struct Examples {
    /// Images and labels.
    pub(crate) data: Dataset,
    prepared: data::Prepared,
    shape: Vec<usize>,
    /// What a first part of the network makes of every image, if the inputs are that.
    features: Option<Features>,
}

/// Values of one node of a network for all images.
#[derive(Debug, Clone)]
struct Features {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Examples {
    /// Checks that the images fit a network of this input shape.
    pub(crate) fn new(
        data: Dataset,
        preprocess: &Preprocess,
        network: &[usize],
    ) -> Result<Self, Failure> {
        let prepared = preprocess.prepare(data.shape, network)?;
        Ok(Self {
            data,
            prepared,
            shape: network.to_vec(),
            features: None,
        })
    }

    /// The same images as the rest of a network sees them after its first part.
    pub(crate) fn with_features(self, first: &Graph) -> Result<Self, Failure> {
        let executor = scuro_nn::reference::Executor::new(first)?;
        let fill = |i: usize, out: &mut [f32]| out.copy_from_slice(&self.input(i));
        let features = Features {
            shape: executor.output_shape().to_vec(),
            values: executor.run_each(self.len(), fill),
        };
        Ok(Self {
            features: Some(features),
            ..self
        })
    }

    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The network's input for image `index`.
    pub(crate) fn input(&self, index: usize) -> Vec<f32> {
        if let Some(features) = &self.features {
            let size: usize = features.shape.iter().product();
            return features.values[index * size..(index + 1) * size].to_vec();
        }
        let mut values = vec![0.0; self.shape.iter().product()];
        self.prepared.fill(self.data.image(index), &mut values);
        values
    }

    /// The first `count` inputs as tensors.
    pub(crate) fn tensors(&self, count: usize) -> Result<Vec<Tensor>, Failure> {
        let shape = self.features.as_ref().map_or(&self.shape, |f| &f.shape);
        let tensor = |i| Ok(Tensor::new(shape.clone(), self.input(i))?);
        (0..count.min(self.len())).map(tensor).collect()
    }

    /// The true label of image `index`.
    pub(crate) fn label(&self, index: usize) -> usize {
        usize::from(self.data.labels[index])
    }
}

/// Reads a network of any supported format.
pub(crate) fn load_network(path: &Path, architecture: Option<&Path>) -> Result<Graph, Failure> {
    let options = scuro_nn::import::Options {
        architecture: architecture.map(Path::to_path_buf),
    };
    // The error names the file itself.
    Ok(scuro_nn::import::open(path, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_repeat_what_was_given() {
        assert_eq!(flags(&Preprocess::default()), None);
        let given = InputArguments {
            input_scale: Some(1.0),
            mean: vec![-0.5, 0.1307],
            standardize: Some(0.25),
            ..InputArguments::default()
        };
        let given = flags(&given.preprocess(None));
        let expected = "--input-scale=1 --mean=-0.5,0.1307 --standardize=0.25";
        assert_eq!(given.as_deref(), Some(expected));
    }

    #[test]
    fn what_the_file_notes_holds_unless_something_is_given() {
        let noted = Preprocess::raw();
        let none = InputArguments::default();
        assert_eq!(none.preprocess(Some(&noted)), noted);
        let given = InputArguments {
            standardize: Some(0.0),
            ..InputArguments::default()
        };
        let expected = Preprocess {
            standardize: Some(0.0),
            ..Preprocess::default()
        };
        assert_eq!(given.preprocess(Some(&noted)), expected);
    }

    #[test]
    fn scales_are_numbers_or_fractions() {
        assert_eq!(fraction("1/255"), Ok(1.0 / 255.0));
        assert_eq!(fraction("2"), Ok(2.0));
        assert!(fraction("1/0").is_err() && fraction("x").is_err());
    }
}
