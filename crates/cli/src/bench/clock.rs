//! Samples of processor time: what the machine's other work does not change much.

use rustix::time::{ClockId, clock_gettime};

use super::case::Sampling;

/// Shortest batch that the clock is read around.
const BATCH_SECONDS: f64 = 0.005;
/// Work before the first sample: the clock of an idle core has to rise, caches and page tables to
/// fill.
const WARM_UP_SECONDS: f64 = 0.2;

/// Seconds of processor time of this thread.
pub(super) fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Seconds of processor time of all threads of this process.
pub(super) fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Microseconds of one call of `work` on this thread: `samples` batches of calls.
pub(super) fn microseconds(samples: usize, mut work: impl FnMut()) -> Sampling {
    let start = thread_seconds();
    while thread_seconds() - start < WARM_UP_SECONDS {
        work();
    }
    let batch = calibrated_batch(&mut work);
    let sample = |work: &mut dyn FnMut()| {
        let start = thread_seconds();
        (0..batch).for_each(|_| work());
        (thread_seconds() - start) * 1e6 / batch as f64
    };
    Sampling::new((0..samples).map(|_| sample(&mut work)).collect(), 1)
}

/// Calls that together take at least [`BATCH_SECONDS`].
fn calibrated_batch(work: &mut impl FnMut()) -> usize {
    let mut batch = 1usize;
    loop {
        let start = thread_seconds();
        (0..batch).for_each(|_| work());
        let elapsed = thread_seconds() - start;
        if elapsed >= BATCH_SECONDS || batch >= 1 << 20 {
            return batch;
        }
        let wanted = BATCH_SECONDS / elapsed.max(1e-7) * 1.2;
        batch = (batch as f64 * wanted.max(1.5)).ceil() as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let start = (thread_seconds(), process_seconds());
        let mut sum = 0u64;
        for i in 0..2_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(i * i));
        }
        assert!(thread_seconds() > start.0 && process_seconds() > start.1);
    }
}
