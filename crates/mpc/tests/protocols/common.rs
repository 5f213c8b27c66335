//! Three parties in threads.

use std::thread;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_mpc::transport::Transport;
use scuro_mpc::transport::local::{self, Local};
use scuro_mpc::{Correlated, Party, Seed, Session, Share};

/// Numbers of a test.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Signed integers of so many bits.
pub(crate) fn random(seed: u64, len: usize, bits: u32) -> Vec<u64> {
    let mut rng = rng(seed);
    let value = |_| ((rng.next_u64() as i64) >> (64 - bits)) as u64;
    (0..len).map(value).collect()
}

/// The randomness of all parties.
pub(crate) fn correlated(rng: &mut ChaCha20Rng) -> [Correlated; 3] {
    let seeds = [0; 3].map(|_| {
        let mut seed = Seed::default();
        rng.fill_bytes(&mut *seed);
        seed
    });
    // Key i is of parties i and i + 1.
    [0, 1, 2].map(|i| Correlated::new(&seeds[i], &seeds[(i + 2) % 3]))
}

/// Runs a protocol with a transport of each party; what each of them gets, in order.
pub(crate) fn with<T: Transport + Send, R: Send>(
    transports: [T; 3],
    seed: u64,
    protocol: impl Fn(&mut Session<T>) -> R + Sync,
) -> [R; 3] {
    let parties = Party::ALL.into_iter().zip(correlated(&mut rng(seed)));
    let parties: Vec<_> = parties.zip(transports).collect();
    let protocol = &protocol;
    let results: Vec<R> = thread::scope(|scope| {
        let threads: Vec<_> = parties
            .into_iter()
            .map(|((party, correlated), transport)| {
                scope.spawn(move || protocol(&mut Session::new(party, correlated, transport)))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    results
        .try_into()
        .unwrap_or_else(|_| unreachable!("three parties"))
}

/// The same within the process.
pub(crate) fn run<R: Send>(
    seed: u64,
    protocol: impl Fn(&mut Session<Local>) -> R + Sync,
) -> [R; 3] {
    with(local::network(), seed, protocol)
}

/// The tensor of all parts, which have to fit together.
pub(crate) fn opened(parts: &[Share; 3]) -> Vec<u64> {
    let opened = [0, 1, 2].map(|i| Share::open(&parts[i], &parts[(i + 1) % 3]).unwrap());
    assert_eq!(opened[0], opened[1]);
    assert_eq!(opened[0], opened[2]);
    opened[0].clone()
}
