//! Trains an architecture by its recipe:
//! `train ARCHITECTURE DATA[,DATA] SEED EPOCHS DATA_FOLDER OUT`.
//!
//! `-` for EPOCHS keeps the recipe's number.

use scuro_nn::data::{self, DatasetName, Split};
use scuro_nn::graph::Graph;
use scuro_train::recipes::{cook, recipe_for};
use scuro_train::{BatchReport, EpochRecord, Examples, Progress, score};
use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

struct Lines(Instant, usize);

impl Progress for Lines {
    fn phase(&mut self, network: &str, epochs: usize) {
        let _ = writeln!(io::stdout(), "{network}: {epochs} epochs");
    }

    fn batch(&mut self, report: &BatchReport) {
        self.1 = report.images;
    }

    fn epoch(&mut self, r: &EpochRecord, _graph: &Graph) -> ControlFlow<()> {
        let rate = self.1 as f64 / self.0.elapsed().as_secs_f64();
        self.0 = Instant::now();
        let held_out = r.validation_accuracy.unwrap_or(f64::NAN);
        let _ = writeln!(
            io::stdout(),
            "epoch {:3} loss {:.4} penalty {:.4} accuracy {:.4} held out {held_out:.4} {rate:.0}/s",
            r.epoch,
            r.loss,
            r.penalty,
            r.accuracy,
        );
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, data, seed, epochs, folder, out] = &arguments[..] else {
        return Err("usage: train ARCHITECTURE DATA[,DATA] SEED EPOCHS DATA_FOLDER OUT".into());
    };
    let folders = [PathBuf::from(folder)];
    let load = |split| -> Result<Vec<Examples>, Box<dyn Error>> {
        let part = |name: &str| -> Result<Examples, Box<dyn Error>> {
            let name = DatasetName {
                split,
                ..name.parse()?
            };
            Ok(Examples::from_dataset(&data::load(name, &folders, None)?))
        };
        data.split(',').map(part).collect()
    };
    let mut parts = load(Split::Train)?.into_iter();
    let first = parts.next().ok_or("no data named")?;
    let all = parts.try_fold(first, |all, part| all.joined(&part))?;
    let mut recipe = recipe_for(name, Some(all.shape()), seed.parse()?)?;
    if epochs != "-" {
        recipe.config.epochs = epochs.parse()?;
    }
    let trained = cook(&recipe, &all, &mut Lines(Instant::now(), 0))?;
    scuro_nn::export::write_onnx(&trained.graph, out.as_ref())?;
    for (name, test) in data.split(',').zip(load(Split::Test)?) {
        let found = score(&trained.graph, &test)?;
        let mut out = io::stdout();
        writeln!(
            out,
            "{name}: accuracy {:.4}, loss {:.4}",
            found.accuracy, found.loss
        )?;
        writeln!(out, "  into activations: {:?}", found.activation_ranges)?;
    }
    Ok(())
}
