//! Memory aligned to cache lines, so that vector loads never straddle two of them.

use std::ops::{Deref, DerefMut};
use std::slice;

use zeroize::Zeroize;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; LINE_WORDS]);

const LINE_WORDS: usize = 8;

/// A fixed-length array of words that starts on a 64-byte boundary.
#[derive(Clone, Default)]
pub struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self {
            lines: vec![Line([0; LINE_WORDS]); len.div_ceil(LINE_WORDS)],
            len,
        }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[u64]) -> Self {
        let mut buffer = Self::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Forgets the words from `len` on; does nothing if there are not that many.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.lines.truncate(len.div_ceil(LINE_WORDS));
            self.len = len;
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        // SAFETY: `Line` is `repr(C)` over eight words without padding, and `len <= 8·lines.len()`
        //     holds since construction.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `deref`; the exclusive borrow of `self` covers the words.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl PartialEq for AlignedBuffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuffer {}

impl Zeroize for AlignedBuffer {
    fn zeroize(&mut self) {
        (**self).zeroize();
    }
}
