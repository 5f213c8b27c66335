//! Slice kernels: one portable specification and one implementation per instruction set.
//!
//! This folder is the only place of the workspace with `unsafe`. A [`Kernel`] can only be obtained
//! through [`Kernel::detect`], [`Kernel::named`] or [`Kernel::available`], all of which ask the
//! processor first; so holding a kernel proves that its instructions exist, and that is the fact
//! behind every `SAFETY` comment on a `#[target_feature]` call. Lengths are checked by the callers
//! in [`crate::PrimeRing`], and again with `debug_assert!` here. Every kernel gives equal bytes:
//! results are fully reduced, and floating-point code is compiled from one source without
//! contraction.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512ifma;
mod buffer;
pub(crate) mod fft;
#[cfg(target_arch = "x86_64")]
mod fma;
mod lanes;
mod ops;
mod portable;

use crate::error::Error;

pub use buffer::AlignedBuffer;
pub(crate) use lanes::{Panel, matrix_panel};
pub(crate) use ops::{NttTables, SliceKernel, TwiddleTree};

/// A choice of instruction set that this processor is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(Isa);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Ifma,
}

impl Isa {
    /// Slowest first.
    const ALL: &[Isa] = &[
        Isa::Portable,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Ifma,
    ];

    fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Ifma => "avx512ifma",
        }
    }

    fn runs_here(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::runs_here(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Ifma => avx512ifma::runs_here(),
        }
    }
}

impl Kernel {
    /// The fastest kernel that this processor runs.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self(Isa::Portable))
    }

    /// Every kernel that this processor runs, slowest first.
    pub fn available() -> Vec<Self> {
        Isa::ALL
            .iter()
            .copied()
            .filter(|isa| isa.runs_here())
            .map(Self)
            .collect()
    }

    /// The kernel called `name`: `portable`, `avx2` or `avx512ifma`.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`], or [`Error::KernelUnavailable`] if this processor lacks it.
    pub fn named(name: &str) -> Result<Self, Error> {
        let isa = Isa::ALL
            .iter()
            .copied()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::UnknownKernel {
                found: name.to_owned(),
            })?;
        if isa.runs_here() {
            Ok(Self(isa))
        } else {
            Err(Error::KernelUnavailable { kernel: isa.name() })
        }
    }

    /// `portable`, `avx2` or `avx512ifma`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    pub(crate) fn ops(self) -> &'static dyn SliceKernel {
        match self.0 {
            Isa::Portable => &portable::Portable,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::Avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Ifma => &avx512ifma::Avx512Ifma,
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
