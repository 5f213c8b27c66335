//! Work space that is kept between operations.
//!
//! A fresh allocation of megabytes is zeroed and paged in each time, which takes as long as the
//! arithmetic on it. Contents of a taken buffer are arbitrary; nothing secret is ever put in one.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use scuro_polyring::AlignedBuffer;

/// Most buffers kept.
const BUFFERS_MAX: usize = 32;
/// A buffer more than this many times too long is left for larger requests.
const WASTE_MAX: usize = 8;

/// Buffers that are not in use.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<AlignedBuffer>>,
}

/// Bytes of the block that [`keep_freed_memory`] frees: the largest for which glibc adapts.
const ADAPTING_BLOCK_BYTES: usize = (32 << 20) - (64 << 10);

/// Makes the allocator keep what ciphertexts free instead of giving it back to the system.
///
/// glibc returns the top of its heap above twice the size of the largest block that was ever mapped
/// and freed, at first 256 KiB: then each operation pages its result in anew, which takes longer
/// than the arithmetic. Freeing one large block, never touched and so costing nothing, lifts that
/// limit. Other allocators are not affected.
pub(crate) fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(
        ADAPTING_BLOCK_BYTES,
    )));
}

/// A buffer that goes back to its pool when dropped.
pub(crate) struct Scratch {
    buffer: AlignedBuffer,
    len: usize,
    pool: Arc<Pool>,
}

impl Pool {
    /// `len` words of arbitrary content.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Scratch {
        let buffer = self
            .reuse(len)
            .unwrap_or_else(|| AlignedBuffer::zeroed(len));
        Scratch {
            buffer,
            len,
            pool: Arc::clone(self),
        }
    }

    /// The shortest free buffer that is long enough.
    fn reuse(&self, len: usize) -> Option<AlignedBuffer> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits =
            |buffer: &AlignedBuffer| (len..=len.saturating_mul(WASTE_MAX)).contains(&buffer.len());
        let fitting = free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let (at, _) = fitting.min_by_key(|(_, buffer)| buffer.len())?;
        Some(free.swap_remove(at))
    }
}

impl Deref for Scratch {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = self
            .pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if free.len() >= BUFFERS_MAX {
            free.remove(0);
        }
        free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_if_they_fit_and_the_pool_stays_bounded() {
        let pool = Arc::new(Pool::default());
        let address = {
            let mut first = pool.take(1000);
            first.fill(7);
            first.as_ptr()
        };
        let again = pool.take(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900));
        assert_ne!(pool.take(2000).as_ptr(), address);
        drop(again);
        assert_ne!(pool.take(10).as_ptr(), address);
        let many: Vec<Scratch> = (0..3 * BUFFERS_MAX).map(|_| pool.take(64)).collect();
        drop(many);
        assert_eq!(pool.free.lock().unwrap().len(), BUFFERS_MAX);
    }
}
