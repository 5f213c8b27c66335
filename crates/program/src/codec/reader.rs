//! Reading a program: every length is checked against the bytes left before anything is allocated.

use super::MAGIC;
use crate::error::ProgramError;
use crate::parameters::{ParameterPlan, Ring, Scheme, SecurityTable};
use crate::program::{Packing, Program, Weights};
use crate::slots::{Run, SlotVector};
use crate::spec::{
    GaloisStep, Gather, InputSpec, KeyManifest, OutputSpec, PostOperation, SlotAddress,
};
use crate::step::{
    Diagonal, Estimate, Flood, Flooding, Linear, Operation, ScalarLinear, Step, ValueId,
};

type Result<T> = std::result::Result<T, ProgramError>;

/// Reads magic, version and body; the caller has checked the first two.
pub(super) fn read(bytes: &[u8]) -> Result<Program> {
    let mut from = Reader {
        bytes,
        at: MAGIC.len() + 2,
    };
    let program = Program {
        name: from.text()?,
        model_digest: from.array()?,
        notes: from.list(8, |from| Ok((from.text()?, from.text()?)))?,
        parameters: from.parameters()?,
        packing: match from.u8()? {
            0 => Packing::SingleImage,
            1 => Packing::Batch,
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "packing",
                    found,
                });
            }
        },
        weights: match from.u8()? {
            0 => Weights::Plain,
            1 => Weights::Private,
            2 => Weights::Withheld,
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "weights",
                    found,
                });
            }
        },
        input: from.input()?,
        steps: from.list(45, Reader::step)?,
        result: ValueId(from.u32()?),
        output: from.output()?,
        keys: from.keys()?,
    };
    match bytes.len() - from.at {
        0 => Ok(program),
        count => Err(ProgramError::TrailingBytes { count }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, needed: usize) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        if needed > left {
            return Err(ProgramError::Truncated {
                offset: self.at,
                needed,
                left,
            });
        }
        let slice = &self.bytes[self.at..self.at + needed];
        self.at += needed;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A length whose items take at least `item_bytes` each.
    fn length(&mut self, item_bytes: usize) -> Result<usize> {
        let count = self.u32()? as usize;
        let left = self.bytes.len() - self.at;
        match count.checked_mul(item_bytes) {
            Some(needed) if needed <= left => Ok(count),
            needed => {
                let needed = needed.unwrap_or(usize::MAX);
                Err(ProgramError::Truncated {
                    offset: self.at,
                    needed,
                    left,
                })
            }
        }
    }

    fn list<T>(
        &mut self,
        item_bytes: usize,
        read: impl Fn(&mut Reader<'a>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.length(item_bytes)?;
        (0..count).map(|_| read(self)).collect()
    }

    fn u32s(&mut self) -> Result<Vec<u32>> {
        self.list(4, Reader::u32)
    }

    fn text(&mut self) -> Result<String> {
        let count = self.length(1)?;
        let offset = self.at;
        let bytes = self.take(count)?.to_vec();
        String::from_utf8(bytes).map_err(|_| ProgramError::NotText { offset })
    }

    fn scheme(&mut self) -> Result<Scheme> {
        let (tag, plain_bits) = (self.u8()?, self.u32()?);
        match tag {
            0 => unused("plaintext bits", plain_bits).map(|()| Scheme::Ckks),
            1 => Ok(Scheme::Bgv { plain_bits }),
            2 => Ok(Scheme::Bfv { plain_bits }),
            found => Err(ProgramError::UnknownTag {
                what: "scheme",
                found,
            }),
        }
    }

    fn parameters(&mut self) -> Result<ParameterPlan> {
        let scheme = self.scheme()?;
        let ring = match self.u8()? {
            0 => Ring::ConjugateInvariant,
            1 => Ring::Standard,
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "ring",
                    found,
                });
            }
        };
        Ok(ParameterPlan {
            scheme,
            ring,
            log_n: self.u32()?,
            q_bits: self.u32s()?,
            p_bits: self.u32s()?,
            security_bits: self.u32()?,
            table: match self.u8()? {
                0 => SecurityTable::Guideline2024,
                1 => SecurityTable::Standard2018,
                found => {
                    return Err(ProgramError::UnknownTag {
                        what: "security table",
                        found,
                    });
                }
            },
        })
    }

    fn input(&mut self) -> Result<InputSpec> {
        Ok(InputSpec {
            shape: self.u32s()?,
            examples: self.u32()?,
            gather: match self.u8()? {
                0 => Gather::Slots(self.list(4, Reader::u32s)?),
                1 => Gather::Batch,
                found => {
                    return Err(ProgramError::UnknownTag {
                        what: "gather",
                        found,
                    });
                }
            },
            level: self.u32()?,
            traced: Some(self.u32()?).filter(|&period| period > 0),
            scale_log2: self.f64()?,
            minimum: self.f32()?,
            maximum: self.f32()?,
        })
    }

    fn output(&mut self) -> Result<OutputSpec> {
        let shape = self.u32s()?;
        let addresses = self.list(8, |from| {
            Ok(SlotAddress {
                ciphertext: from.u32()?,
                slot: from.u32()?,
            })
        })?;
        let factor = self.f64()?;
        let (tag, axis) = (self.u8()?, self.u32()?);
        let post = match tag {
            0 => unused("axis", axis).map(|()| PostOperation::None)?,
            1 => PostOperation::Softmax { axis },
            2 => PostOperation::LogSoftmax { axis },
            3 => unused("axis", axis).map(|()| PostOperation::Sigmoid)?,
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "post operation",
                    found,
                });
            }
        };
        Ok(OutputSpec {
            shape,
            addresses,
            factor,
            post,
        })
    }

    fn keys(&mut self) -> Result<KeyManifest> {
        let present = self.u8()?;
        let level = self.u32()?;
        let relinearize = match present {
            0 => unused("relinearisation level", level).map(|()| None)?,
            1 => Some(level),
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "relinearisation",
                    found,
                });
            }
        };
        Ok(KeyManifest {
            relinearize,
            galois: self.steps_with_levels()?,
            relinearized: self.steps_with_levels()?,
            public: match self.u8()? {
                0 => false,
                1 => true,
                found => {
                    return Err(ProgramError::UnknownTag {
                        what: "public key",
                        found,
                    });
                }
            },
        })
    }

    fn steps_with_levels(&mut self) -> Result<Vec<GaloisStep>> {
        self.list(8, |from| {
            Ok(GaloisStep {
                step: from.u32()?,
                level: from.u32()?,
            })
        })
    }

    fn step(&mut self) -> Result<Step> {
        Ok(Step {
            layer: self.text()?,
            inputs: self.list(4, |from| Ok(ValueId(from.u32()?)))?,
            estimate: Estimate {
                level: self.u32()?,
                scale_log2: self.f64()?,
                max_abs: self.f64()?,
                error: self.f64()?,
                micros: self.f64()?,
            },
            operation: self.operation()?,
        })
    }

    fn operation(&mut self) -> Result<Operation> {
        Ok(match self.u8()? {
            0 => Operation::Linear(self.linear()?),
            1 => Operation::Fold {
                stages: self.list(4, Reader::u32s)?,
            },
            2 => Operation::AddConstant {
                values: self.list(4, Reader::slots)?,
            },
            3 => Operation::AddScalars {
                values: self.list(8, Reader::f64)?,
            },
            4 => Operation::Square,
            5 => Operation::Multiply,
            6 => Operation::Relinearize,
            7 => Operation::Rescale,
            8 => Operation::ModDrop { level: self.u32()? },
            9 => Operation::Combine {
                weight_scale_log2: self.f64()?,
                factors: self.list(8, Reader::f64)?,
            },
            10 => Operation::ScalarLinear(self.scalar_linear()?),
            11 => Operation::Rotate {
                steps: self.u32s()?,
            },
            12 => Operation::Flood(Flood {
                flooding: self.flooding()?,
                bound_log2: self.f64()?,
            }),
            13 => Operation::Trace {
                period: self.u32()?,
                copies: self.u32()?,
            },
            found => {
                return Err(ProgramError::UnknownTag {
                    what: "operation",
                    found,
                });
            }
        })
    }

    fn flooding(&mut self) -> Result<Flooding> {
        let (tag, bits, decryptions) = (self.u8()?, self.u32()?, self.u32()?);
        match tag {
            0 => unused("decryptions", decryptions).map(|()| Flooding::Statistical { bits }),
            1 => Ok(Flooding::Relaxed { bits, decryptions }),
            2 => Ok(Flooding::Estimated { bits, decryptions }),
            found => Err(ProgramError::UnknownTag {
                what: "flooding",
                found,
            }),
        }
    }

    fn linear(&mut self) -> Result<Linear> {
        Ok(Linear {
            outputs: self.u32()?,
            weight_scale_log2: self.f64()?,
            diagonals: self.list(24, |from| {
                Ok(Diagonal {
                    output: from.u32()?,
                    operand: from.u32()?,
                    ciphertext: from.u32()?,
                    giant: from.u32()?,
                    baby: from.u32()?,
                    values: from.slots()?,
                })
            })?,
        })
    }

    fn slots(&mut self) -> Result<SlotVector> {
        let runs = self.list(8, |from| {
            Ok(Run {
                start: from.u32()?,
                values: from.list(4, Reader::f32)?,
            })
        })?;
        Ok(SlotVector { runs })
    }

    fn scalar_linear(&mut self) -> Result<ScalarLinear> {
        Ok(ScalarLinear {
            columns: self.u32()?,
            row_starts: self.u32s()?,
            column: self.u32s()?,
            weight: self.list(4, |from| Ok(from.u32()? as i32))?,
            weight_scale_log2: self.f64()?,
        })
    }
}

/// A field that means nothing here is zero, so that a program has one encoding.
fn unused(what: &'static str, found: u32) -> Result<()> {
    match found {
        0 => Ok(()),
        _ => Err(ProgramError::NotCanonical { what, found }),
    }
}
