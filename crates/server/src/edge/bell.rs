//! Wakes whoever waits for work, in threads and in tasks.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Rung when something changed; every waiter looks for itself what it was.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
    tasks: Notify,
}

impl Bell {
    /// Wakes all waiters.
    pub(super) fn ring(&self) {
        *self.lock() += 1;
        self.rung.notify_all();
        self.tasks.notify_waiters();
    }

    /// Rings so far; read before looking for work, so that no ring is missed.
    pub(super) fn rings(&self) -> u64 {
        *self.lock()
    }

    /// Waits in a thread until there are more than `seen` rings, or for `limit`.
    pub(super) fn wait(&self, seen: u64, limit: Duration) {
        let rings = self.lock();
        let waiting = self
            .rung
            .wait_timeout_while(rings, limit, |rings| *rings == seen);
        drop(waiting);
    }

    /// Waits in a task until there are more than `seen` rings, or for `limit`.
    pub(super) async fn wait_async(&self, seen: u64, limit: Duration) {
        let notified = self.tasks.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.rings() == seen {
            // Both outcomes mean the same: look again.
            let _ = tokio::time::timeout(limit, notified).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
