//! From diagonals of any kind of numbers to encoded groups.

use std::collections::{BTreeMap, BTreeSet};

use scuro_polyring::{Basis, Ntt, Poly, RowFactors};

use super::{Diagonal, Group, Operand, PreparedTransform, SlotValues};
use crate::context::Context;
use crate::error::Error;
use crate::subring;

/// What diagonals refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Rows of slots that rotations turn in themselves.
    pub(super) rows: usize,
}

/// A map that is to be encoded.
pub(super) struct Source<'a, T> {
    pub(super) context: &'a Context,
    pub(super) shape: Shape,
    pub(super) diagonals: &'a [Diagonal<T>],
}

impl<T: Copy + Default + PartialEq> Source<'_, T> {
    /// Encodes the diagonals at `level`, those of one place summed by `add`.
    pub(super) fn prepare(
        &self,
        level: usize,
        scale: f64,
        add: impl Fn(&mut T, T),
        encode: impl Fn(&[T], Basis) -> Result<Poly<Ntt>, Error>,
    ) -> Result<PreparedTransform, Error> {
        let context = self.context;
        context.check_level(level)?;
        self.check()?;
        let places = self.places(add)?;
        let extended = places.keys().any(|place| place.operand.baby != 0);
        let found: BTreeSet<Operand> = places.keys().map(|place| place.operand).collect();
        let operands: Vec<Operand> = found.into_iter().collect();
        let basis = basis(context, level, extended);
        let mut outputs: Vec<Vec<Group>> = (0..self.shape.outputs).map(|_| Vec::new()).collect();
        let places: Vec<(Place, Vec<T>)> = places.into_iter().collect();
        for terms in places.chunk_by(|(a, _), (b, _)| (a.output, a.giant) == (b.output, b.giant)) {
            let (place, degree) = (terms[0].0, context.ring().degree());
            let (bits, run) = (context.bits(&basis), self.run(terms));
            let mut group = Group {
                giant: place.giant,
                operands: Vec::with_capacity(terms.len()),
                factors: RowFactors::packed(bits, degree, terms.len(), run),
            };
            for (term, (place, values)) in terms.iter().enumerate() {
                let operand = operands.partition_point(|operand| *operand < place.operand);
                group.operands.push(operand);
                for (row, (_, values)) in encode(values, basis.clone())?.rows().enumerate() {
                    group.factors.set(row, term, values);
                }
            }
            outputs[place.output].push(group);
        }
        if let Some(output) = outputs.iter().position(Vec::is_empty) {
            return Err(Error::EmptyOutput { output });
        }
        Ok(PreparedTransform {
            digest: context.digest(),
            level,
            scale,
            inputs: self.shape.inputs,
            outputs,
            operands,
            extended,
        })
    }

    /// How many neighbouring positions of the encoded diagonals have equal values.
    ///
    /// Slots that repeat every p are fixed by the rotation by p: a polynomial in X^(S/p) for S
    /// slots a row, whose transform in bit-reversed order is constant along S/p positions.
    fn run(&self, terms: &[(Place, Vec<T>)]) -> usize {
        let row_len = self.context.parameters().slots();
        let rows = terms
            .iter()
            .flat_map(|(_, values)| values.chunks_exact(row_len));
        let runs = rows.map(|row| row_len / subring::period(row));
        runs.min().unwrap_or(1)
    }

    fn check(&self) -> Result<(), Error> {
        let steps = self.context.parameters().slots();
        for diagonal in self.diagonals {
            let fields = [
                ("output", diagonal.output, self.shape.outputs),
                ("input", diagonal.input, self.shape.inputs),
                ("giant step", diagonal.giant, steps),
                ("baby step", diagonal.baby, steps),
            ];
            for (what, found, bound) in fields {
                if found >= bound {
                    return Err(Error::IndexOutOfRange { what, found, bound });
                }
            }
        }
        Ok(())
    }

    /// The diagonals rotated by their giant step, those of one place added up.
    fn places(&self, add: impl Fn(&mut T, T)) -> Result<BTreeMap<Place, Vec<T>>, Error> {
        let row_len = self.context.parameters().slots();
        let slots = self.shape.rows * row_len;
        let mut places: BTreeMap<Place, Vec<T>> = BTreeMap::new();
        for diagonal in self.diagonals {
            let place = Place::of(diagonal);
            let sum = places
                .entry(place)
                .or_insert_with(|| vec![T::default(); slots]);
            diagonal.values.for_each_run(slots, |start, values| {
                for (slot, &value) in (start..).zip(values) {
                    let row = slot / row_len * row_len;
                    add(&mut sum[row + (slot + place.giant) % row_len], value);
                }
            })?;
        }
        Ok(places)
    }
}

/// Ordered so that the terms of a group are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    output: usize,
    giant: usize,
    operand: Operand,
}

impl Place {
    fn of<T>(diagonal: &Diagonal<T>) -> Self {
        let &Diagonal {
            output,
            input,
            giant,
            baby,
            ..
        } = diagonal;
        Self {
            output,
            giant,
            operand: Operand { input, baby },
        }
    }
}

impl<T> SlotValues<T> {
    fn for_each_run(&self, slots: usize, mut run: impl FnMut(usize, &[T])) -> Result<(), Error> {
        let mut checked = |start: usize, values: &[T]| match start.checked_add(values.len()) {
            Some(end) if end <= slots => {
                run(start, values);
                Ok(())
            }
            _ => Err(Error::LengthMismatch {
                what: "slots up to the end of a run",
                found: start.saturating_add(values.len()),
                expected: slots,
            }),
        };
        match self {
            Self::Dense(values) => checked(0, values),
            Self::Runs(runs) => runs
                .iter()
                .try_for_each(|(start, values)| checked(*start, values)),
        }
    }
}

fn basis(context: &Context, level: usize, extended: bool) -> Basis {
    if extended {
        context.extended_basis(level)
    } else {
        context.basis(level)
    }
}
