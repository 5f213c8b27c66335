//! Writing a program.

use super::{FORMAT_VERSION, MAGIC};
use crate::parameters::{ParameterPlan, Ring, Scheme, SecurityTable};
use crate::program::{Packing, Program, Weights};
use crate::slots::SlotVector;
use crate::spec::{GaloisStep, Gather, InputSpec, KeyManifest, OutputSpec, PostOperation};
use crate::step::{Flooding, Linear, Operation, ScalarLinear, Step};

/// Magic, version and body, without the digest.
pub(super) fn write(program: &Program) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.0.extend_from_slice(&MAGIC);
    out.0.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.text(&program.name);
    out.0.extend_from_slice(&program.model_digest);
    out.list(&program.notes, |out, (key, value)| {
        out.text(key);
        out.text(value);
    });
    out.parameters(&program.parameters);
    out.u8(match program.packing {
        Packing::SingleImage => 0,
        Packing::Batch => 1,
    });
    out.u8(match program.weights {
        Weights::Plain => 0,
        Weights::Private => 1,
        Weights::Withheld => 2,
    });
    out.input(&program.input);
    out.list(&program.steps, Writer::step);
    out.u32(program.result.0);
    out.output(&program.output);
    out.keys(&program.keys);
    out.0
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn f32(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Writer, &T)) {
        self.length(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    fn u32s(&mut self, items: &[u32]) {
        self.list(items, |out, &v| out.u32(v));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn parameters(&mut self, plan: &ParameterPlan) {
        let (scheme, plain_bits) = match plan.scheme {
            Scheme::Ckks => (0, 0),
            Scheme::Bgv { plain_bits } => (1, plain_bits),
            Scheme::Bfv { plain_bits } => (2, plain_bits),
        };
        self.u8(scheme);
        self.u32(plain_bits);
        self.u8(match plan.ring {
            Ring::ConjugateInvariant => 0,
            Ring::Standard => 1,
        });
        self.u32(plan.log_n);
        self.u32s(&plan.q_bits);
        self.u32s(&plan.p_bits);
        self.u32(plan.security_bits);
        self.u8(match plan.table {
            SecurityTable::Guideline2024 => 0,
            SecurityTable::Standard2018 => 1,
        });
    }

    fn input(&mut self, input: &InputSpec) {
        self.u32s(&input.shape);
        self.u32(input.examples);
        match &input.gather {
            Gather::Slots(maps) => {
                self.u8(0);
                self.list(maps, |out, map| out.u32s(map));
            }
            Gather::Batch => self.u8(1),
        }
        self.u32(input.level);
        self.u32(input.traced.unwrap_or(0));
        self.f64(input.scale_log2);
        self.f32(input.minimum);
        self.f32(input.maximum);
    }

    fn output(&mut self, output: &OutputSpec) {
        self.u32s(&output.shape);
        self.list(&output.addresses, |out, address| {
            out.u32(address.ciphertext);
            out.u32(address.slot);
        });
        self.f64(output.factor);
        let (tag, axis) = match output.post {
            PostOperation::None => (0, 0),
            PostOperation::Softmax { axis } => (1, axis),
            PostOperation::LogSoftmax { axis } => (2, axis),
            PostOperation::Sigmoid => (3, 0),
        };
        self.u8(tag);
        self.u32(axis);
    }

    fn keys(&mut self, keys: &KeyManifest) {
        self.u8(keys.relinearize.is_some().into());
        self.u32(keys.relinearize.unwrap_or(0));
        self.steps_with_levels(&keys.galois);
        self.steps_with_levels(&keys.relinearized);
        self.u8(keys.public.into());
    }

    fn steps_with_levels(&mut self, keys: &[GaloisStep]) {
        self.list(keys, |out, key| {
            out.u32(key.step);
            out.u32(key.level);
        });
    }

    fn step(&mut self, step: &Step) {
        self.text(&step.layer);
        self.list(&step.inputs, |out, id| out.u32(id.0));
        let estimate = &step.estimate;
        self.u32(estimate.level);
        self.f64(estimate.scale_log2);
        self.f64(estimate.max_abs);
        self.f64(estimate.error);
        self.f64(estimate.micros);
        self.operation(&step.operation);
    }

    fn operation(&mut self, operation: &Operation) {
        match operation {
            Operation::Linear(linear) => {
                self.u8(0);
                self.linear(linear);
            }
            Operation::Rotate { steps } => {
                self.u8(11);
                self.u32s(steps);
            }
            Operation::Fold { stages } => {
                self.u8(1);
                self.list(stages, |out, stage| out.u32s(stage));
            }
            Operation::AddConstant { values } => {
                self.u8(2);
                self.list(values, Writer::slots);
            }
            Operation::AddScalars { values } => {
                self.u8(3);
                self.list(values, |out, &v| out.f64(v));
            }
            Operation::Square => self.u8(4),
            Operation::Multiply => self.u8(5),
            Operation::Relinearize => self.u8(6),
            Operation::Rescale => self.u8(7),
            Operation::ModDrop { level } => {
                self.u8(8);
                self.u32(*level);
            }
            Operation::Combine {
                weight_scale_log2,
                factors,
            } => {
                self.u8(9);
                self.f64(*weight_scale_log2);
                self.list(factors, |out, &v| out.f64(v));
            }
            Operation::ScalarLinear(matrix) => {
                self.u8(10);
                self.scalar_linear(matrix);
            }
            Operation::Trace { period, copies } => {
                self.u8(13);
                self.u32(*period);
                self.u32(*copies);
            }
            Operation::Flood(flood) => {
                self.u8(12);
                let (tag, bits, decryptions) = match flood.flooding {
                    Flooding::Statistical { bits } => (0, bits, 0),
                    Flooding::Relaxed { bits, decryptions } => (1, bits, decryptions),
                    Flooding::Estimated { bits, decryptions } => (2, bits, decryptions),
                };
                self.u8(tag);
                self.u32(bits);
                self.u32(decryptions);
                self.f64(flood.bound_log2);
            }
        }
    }

    fn linear(&mut self, linear: &Linear) {
        self.u32(linear.outputs);
        self.f64(linear.weight_scale_log2);
        self.list(&linear.diagonals, |out, diagonal| {
            out.u32(diagonal.output);
            out.u32(diagonal.operand);
            out.u32(diagonal.ciphertext);
            out.u32(diagonal.giant);
            out.u32(diagonal.baby);
            out.slots(&diagonal.values);
        });
    }

    fn slots(&mut self, vector: &SlotVector) {
        self.list(&vector.runs, |out, run| {
            out.u32(run.start);
            out.list(&run.values, |out, &v| out.f32(v));
        });
    }

    fn scalar_linear(&mut self, matrix: &ScalarLinear) {
        self.u32(matrix.columns);
        self.u32s(&matrix.row_starts);
        self.u32s(&matrix.column);
        self.list(&matrix.weight, |out, &v| out.u32(v as u32));
        self.f64(matrix.weight_scale_log2);
    }
}
