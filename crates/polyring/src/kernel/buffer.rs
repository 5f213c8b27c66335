//! Memory aligned to cache lines, so that vector loads never straddle two of them, and kept when
//! it is freed.
//!
//! A fresh allocation is zeroed and often paged in too, which takes as long as the arithmetic that
//! fills it. So buffers of a page and more are handed on: [`AlignedBuffer::recycled`] gives
//! one with whatever it held before. Who frees a buffer with secrets zeroises it first.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; LINE_WORDS]);

const LINE_WORDS: usize = 8;

/// A fixed-length array of words that starts on a 64-byte boundary.
#[derive(Default)]
pub struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let lines = len.div_ceil(LINE_WORDS);
        match take(lines) {
            Some(lines) => {
                let mut buffer = Self { lines, len };
                buffer.fill(0);
                buffer
            }
            None => Self::fresh(len),
        }
    }

    /// `len` words of arbitrary content, for those who write all of them.
    pub fn recycled(len: usize) -> Self {
        match take(len.div_ceil(LINE_WORDS)) {
            Some(lines) => Self { lines, len },
            None => Self::fresh(len),
        }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[u64]) -> Self {
        let mut buffer = Self::recycled(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Forgets the words from `len` on; does nothing if there are not that many.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn fresh(len: usize) -> Self {
        Self {
            lines: vec![Line([0; LINE_WORDS]); len.div_ceil(LINE_WORDS)],
            len,
        }
    }
}

/// Shorter buffers than this many lines are left to the allocator.
const KEPT_LINES_MIN: usize = 64;
/// Most lines kept: 128 MiB.
const KEPT_LINES_MAX: usize = 2 << 20;

/// Freed lines.
struct Kept {
    /// By number of lines.
    buffers: BTreeMap<usize, Vec<Vec<Line>>>,
    lines: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    buffers: BTreeMap::new(),
    lines: 0,
});

/// Kept lines of exactly this number.
fn take(lines: usize) -> Option<Vec<Line>> {
    if lines < KEPT_LINES_MIN {
        return None;
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let buffer = kept.buffers.get_mut(&lines)?.pop()?;
    kept.lines -= lines;
    Some(buffer)
}

/// Keeps freed lines. If that would be too many, those kept so far are of sizes that are not asked
/// for, and go.
fn keep(lines: Vec<Line>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stale = BTreeMap::new();
    if kept.lines + lines.len() > KEPT_LINES_MAX {
        stale = std::mem::take(&mut kept.buffers);
        kept.lines = 0;
    }
    kept.lines += lines.len();
    kept.buffers.entry(lines.len()).or_default().push(lines);
    drop(kept);
    drop(stale);
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if (KEPT_LINES_MIN..=KEPT_LINES_MAX).contains(&self.lines.len()) {
            keep(std::mem::take(&mut self.lines));
        }
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        Self::from_slice(self)
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
    /// Clears forgotten words too.
    fn zeroize(&mut self) {
        let len = std::mem::replace(&mut self.len, LINE_WORDS * self.lines.len());
        (**self).zeroize();
        self.len = len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_buffers_are_handed_on_by_their_length_within_bounds() {
        // A length that no other test uses.
        const LEN: usize = 77_775;
        let mut first = AlignedBuffer::recycled(LEN);
        first.fill(7);
        let address = first.as_ptr();
        drop(first);
        let again = AlignedBuffer::recycled(LEN - 1);
        assert_eq!((again.as_ptr(), again.len()), (address, LEN - 1));
        drop(again);
        let zeros = AlignedBuffer::zeroed(LEN);
        assert_eq!(zeros.as_ptr(), address);
        assert!(zeros.iter().all(|&word| word == 0));
        const LONG: usize = KEPT_LINES_MAX * LINE_WORDS / 3 * 2;
        drop([AlignedBuffer::recycled(LONG), AlignedBuffer::recycled(LONG)]);
        let kept = KEPT.lock().unwrap();
        assert!(kept.lines <= KEPT_LINES_MAX);
        let sum: usize = kept.buffers.iter().map(|(n, list)| n * list.len()).sum();
        assert_eq!(sum, kept.lines);
    }
}
