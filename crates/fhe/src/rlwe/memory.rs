//! What the allocator does with freed memory.

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
