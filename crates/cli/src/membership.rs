//! Programs of an ensemble's holders: what the command line says of them.

use std::path::PathBuf;

use scuro_client::Model;
use scuro_compiler::ensemble::{Degree, Ensemble};
use scuro_nn::data::Dataset;
use scuro_program::face::{CLASSES_NOTE, compare};
use scuro_program::{Flooding, Program};

use crate::compiled;
use crate::errors::{At, Failure};

/// Over the error that is predicted, as approximate programs of several layers bear no more: so
/// many bits, for so many decryptions.
const FLOODING: Flooding = Flooding::Estimated {
    bits: 20,
    decryptions: 1,
};
/// Over the largest error of any input, which exact programs bear.
const FLOODING_EXACT: Flooding = Flooding::Statistical { bits: 40 };

/// What the coordinator computes of the replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DegreeChoice {
    /// Sums and linear meta-models.
    Linear,
    /// Soft votes too.
    Square,
    /// Confidence weighting too.
    Cube,
}

impl DegreeChoice {
    fn degree(self) -> Degree {
        match self {
            Self::Linear => Degree::Linear,
            Self::Square => Degree::Square,
            Self::Cube => Degree::Cube,
        }
    }
}

/// Arguments about an ensemble.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct MembershipArguments {
    /// The first program of an ensemble of model holders; says what the coordinator may compute of
    /// the replies. Replies are flooded.
    #[arg(long, value_name = "DEGREE", value_enum, num_args = 0..=1)]
    #[arg(
        require_equals = true,
        default_missing_value = "linear",
        conflicts_with = "contract"
    )]
    pub(crate) ensemble: Option<DegreeChoice>,
    /// A further program of an ensemble: the contract, or any program of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) contract: Option<PathBuf>,
    /// Names of the classes, in the order of the outputs [default: those of the data].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
}

impl MembershipArguments {
    /// The first program of an ensemble.
    pub(crate) fn first(degree: DegreeChoice) -> Self {
        Self {
            ensemble: Some(degree),
            ..Self::default()
        }
    }

    /// Whether the program is one of an ensemble's.
    pub(crate) fn is_member(&self) -> bool {
        self.ensemble.is_some() || self.contract.is_some()
    }

    /// The same for the compiler.
    pub(crate) fn ensemble(&self) -> Result<Option<Ensemble>, Failure> {
        if let Some(choice) = self.ensemble {
            let (degree, face) = (choice.degree(), None);
            return Ok(Some(Ensemble { degree, face }));
        }
        Ok(self.contract_face()?.map(|face| Ensemble {
            // The contract says itself what replies have room for.
            degree: Degree::Linear,
            face: Some(Box::new(face)),
        }))
    }

    fn contract_face(&self) -> Result<Option<Program>, Failure> {
        let Some(path) = &self.contract else {
            return Ok(None);
        };
        let program = compiled::open_model(path)?.model;
        face(&program).at(path.display()).map(Some)
    }

    /// That a program, with its notes, is as the contract says: classes in the same order, images
    /// prepared the same way.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, model: &Model) -> Result<(), Failure> {
        let Some(contract) = self.contract_face()? else {
            return Ok(());
        };
        compare(&contract, &face(model)?).map_err(|mismatch| {
            Failure::bad_input("ensemble.contract", mismatch.to_string())
                .hint("give --classes and the input flags of the first program")
        })
    }

    /// How replies are hidden unless the command line says, those of exact programs if `exact`.
    pub(crate) fn flooding(&self, exact: bool) -> Option<Flooding> {
        let usual = if exact { FLOODING_EXACT } else { FLOODING };
        self.is_member().then_some(usual)
    }

    /// Notes the names of the classes in a program.
    ///
    /// # Errors
    /// Names that are not as many as the outputs, twice the same, or of several lines.
    pub(crate) fn note_classes(
        &self,
        program: &mut Program,
        data: &Dataset,
    ) -> Result<(), Failure> {
        if !self.is_member() {
            return Ok(());
        }
        let outputs = program.output.elements();
        let given: Vec<String> = match (&self.classes[..], &data.classes) {
            ([], names) if names.len() == outputs => names.iter().map(|n| n.to_string()).collect(),
            ([], _) => (0..outputs).map(|class| class.to_string()).collect(),
            (names, _) => names.to_vec(),
        };
        check(&given, outputs)?;
        program.notes.push((CLASSES_NOTE.into(), given.join("\n")));
        Ok(())
    }
}

fn check(names: &[String], outputs: usize) -> Result<(), Failure> {
    let fault = |message: String| Err(Failure::bad_input("ensemble.classes", message));
    if names.len() != outputs {
        return fault(format!(
            "{} classes, the network has {outputs} outputs",
            names.len()
        ));
    }
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || name.contains('\n') || names[..at].contains(name) {
            return fault(format!(
                "class {at}, {name:?}, is empty, repeated or of several lines"
            ));
        }
    }
    Ok(())
}

/// The face of a model.
pub(crate) fn face(model: &Model) -> Result<Program, Failure> {
    Ok(model.program().face(model.context().parameters().q())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_as_many_as_outputs_and_differ() {
        let names = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
        assert!(check(&names("cat,dog"), 2).is_ok());
        for (text, outputs) in [("cat", 2), ("cat,cat", 2), ("cat,", 2), ("a\nb,c", 2)] {
            let found = check(&names(text), outputs).expect_err(text);
            assert_eq!(found.code, "ensemble.classes", "{text:?}");
        }
    }

    #[test]
    fn only_members_are_flooded_by_default() {
        let nobody = MembershipArguments::default();
        assert!(!nobody.is_member() && nobody.flooding(false).is_none());
        let first = MembershipArguments::first(DegreeChoice::Linear);
        assert_eq!(first.flooding(false), Some(FLOODING));
        assert_eq!(first.flooding(true), Some(FLOODING_EXACT));
        let asked = first.ensemble().expect("no file is read");
        assert!(asked.is_some_and(|ensemble| ensemble.face.is_none()));
    }
}
