//! What a party receives: uniform, of the protocol's lengths, or an error.

use std::sync::Mutex;

use crate::common::{correlated, rng, with};
use scuro_mpc::transport::Transport;
use scuro_mpc::transport::local::{self, Local};
use scuro_mpc::{Error, Party, Session, Share, fixed};

/// Messages that each party gets, and sends, in [`layer`].
const MESSAGES: usize = 35;

/// Everything that came in, message by message.
struct Recording<'a> {
    inner: Local,
    received: &'a Mutex<Vec<(Party, Vec<u8>)>>,
}

impl Transport for Recording<'_> {
    fn send(&mut self, to: Party, message: Vec<u8>) -> Result<(), Error> {
        self.inner.send(to, message)
    }

    fn receive(&mut self, from: Party) -> Result<Vec<u8>, Error> {
        let message = self.inner.receive(from)?;
        let mut received = self.received.lock().unwrap();
        received.push((from, message.clone()));
        Ok(message)
    }
}

/// How often each byte occurs, against a uniform distribution: 255 in the mean, deviation 22.6.
fn chi_square(bytes: &[u8]) -> f64 {
    let mut counts = [0f64; 256];
    bytes
        .iter()
        .for_each(|&byte| counts[usize::from(byte)] += 1.0);
    let expected = bytes.len() as f64 / 256.0;
    counts
        .iter()
        .map(|count| (count - expected).powi(2) / expected)
        .sum()
}

/// A product of matrices with its ReLU, the ReLU of a shared tensor, a selection, a product
/// divided and as it is: every kind of message.
fn layer<T: Transport>(
    session: &mut Session<T>,
    x: &[Share; 3],
    y: &[Share; 3],
) -> Result<(), Error> {
    let i = session.party().index();
    let product = session.matrix_product(&x[i], &y[i], [16, 4, 16])?;
    let rectified = session.relu_of(product, fixed::FRACTION_BITS)?;
    session.relu(&rectified)?;
    session.where_not_negative(&rectified, [&rectified, &rectified])?;
    let product = session.matrix_product(&x[i], &y[i], [16, 4, 16])?;
    session.quotient(product, fixed::FRACTION_BITS)?;
    let product = session.matrix_product(&x[i], &y[i], [16, 4, 16])?;
    session.reshare(product)?;
    Ok(())
}

/// Sharings of a constant 16 x 4 and 4 x 16 matrix, shared anew for every seed.
fn inputs(seed: u64, value: u64) -> [[Share; 3]; 2] {
    [seed, seed + 1].map(|seed| Share::deal(&[value; 64], &mut rng(seed)))
}

#[test]
fn every_message_is_uniform_whatever_the_values_are() {
    const RUNS: u64 = 200;
    for value in [0, 1 << 16, 3u64.wrapping_neg()] {
        // [party][message]: bytes of all runs
        let mut views: [Vec<Vec<u8>>; 3] = Default::default();
        for run in 0..RUNS {
            let [x, y] = inputs(1000 * run, value);
            let received = [(); 3].map(|()| Mutex::new(Vec::new()));
            let mut ends = local::network().into_iter();
            let transports = received.each_ref().map(|received| Recording {
                inner: ends.next().unwrap(),
                received,
            });
            let results = with(transports, run, |session| layer(session, &x, &y));
            assert!(results.iter().all(Result::is_ok));
            for (view, received) in views.iter_mut().zip(received) {
                let mut messages = received.into_inner().unwrap();
                // By sender: in which order two senders are heard is the receiver's choice.
                messages.sort_by_key(|(from, _)| from.index());
                view.resize(messages.len(), Vec::new());
                let pairs = view.iter_mut().zip(messages);
                pairs.for_each(|(all, (_, message))| all.extend(message));
            }
        }
        for (party, view) in views.iter().enumerate() {
            assert_eq!(view.len(), MESSAGES, "messages to party {party}");
            for (at, bytes) in view.iter().enumerate() {
                let found = chi_square(bytes);
                assert!(
                    bytes.len() > 1000 && (120.0..400.0).contains(&found),
                    "value {value}, party {party}, message {at}: {found} for {} bytes",
                    bytes.len()
                );
            }
        }
    }
}

#[test]
fn values_that_are_not_masked_would_be_seen() {
    let mut plain = Vec::new();
    (0..4000u64).for_each(|at| plain.extend((1u64 << 16).wrapping_add(at % 7).to_le_bytes()));
    assert!(chi_square(&plain) > 1e4);
}

/// Cuts the last byte off, or doubles, one message.
struct Tampering {
    inner: Local,
    /// Messages until the one that is changed; none is if nothing.
    left: Option<usize>,
    double: bool,
}

impl Transport for Tampering {
    fn send(&mut self, to: Party, mut message: Vec<u8>) -> Result<(), Error> {
        match &mut self.left {
            Some(0) if self.double => message.extend(message.clone()),
            Some(0) => drop(message.pop()),
            _ => {}
        }
        self.left = self.left.and_then(|left| left.checked_sub(1));
        self.inner.send(to, message)
    }

    fn receive(&mut self, from: Party) -> Result<Vec<u8>, Error> {
        self.inner.receive(from)
    }
}

#[test]
fn a_message_of_another_length_is_an_error_that_names_its_sender() {
    let [x, y] = inputs(1, 5);
    for at in 0..MESSAGES {
        for double in [false, true] {
            let mut ends = local::network().into_iter();
            let transports = Party::ALL.map(|party| Tampering {
                inner: ends.next().unwrap(),
                left: (party == Party::P1).then_some(at),
                double,
            });
            let results = with(transports, 3, |session| {
                let result = layer(session, &x, &y);
                // What a process does that gives up.
                (session.party(), result)
            });
            let named = results.iter().filter(|(_, result)| {
                matches!(
                    result,
                    Err(Error::Message {
                        from: Party::P1,
                        ..
                    })
                )
            });
            assert!(named.count() >= 1, "message {at}: {results:?}");
        }
    }
}

#[test]
fn a_party_that_is_gone_is_named() {
    let [x, y] = inputs(1, 5);
    let results = with(local::network(), 3, |session| match session.party() {
        Party::P2 => Ok(()),
        _ => layer(session, &x, &y),
    });
    // Who is quicker names the one that is gone; the other may wait for the first, who gave up.
    let gone = |result: &&Result<(), Error>| matches!(result, Err(Error::Gone(_)));
    assert_eq!(results[..2].iter().filter(gone).count(), 2, "{results:?}");
    assert!(
        results.contains(&Err(Error::Gone(Party::P2))),
        "{results:?}"
    );
}

#[test]
fn parties_without_randomness_in_common_get_nonsense() {
    // Keys of two seeds: sharings do not fit together any more.
    let [x, y] = inputs(1, 5);
    let mut ends = local::network().into_iter();
    let mut randomness = [3, 3, 4].into_iter().enumerate();
    let sessions = Party::ALL.map(|party| {
        let (i, seed) = randomness.next().unwrap();
        let [first, second, third] = correlated(&mut rng(seed));
        let own = [first, second, third].into_iter().nth(i).unwrap();
        Session::new(party, own, ends.next().unwrap())
    });
    let parts: Vec<Share> = std::thread::scope(|scope| {
        let run = |mut session: Session<Local>| {
            let (x, y) = (&x, &y);
            scope.spawn(move || {
                let i = session.party().index();
                let product = session.matrix_product(&x[i], &y[i], [16, 4, 16]).unwrap();
                session.reshare(product).unwrap()
            })
        };
        let threads = sessions.map(run);
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let found = Share::open(&parts[0], &parts[1]).unwrap();
    assert_ne!(found, vec![100; 256]);
}

#[test]
fn fixed_point_says_what_it_has_no_room_for() {
    let values = [0.0, 1.5, -2.25, 32_767.0];
    let encoded = fixed::encode(&values, 16).unwrap();
    assert_eq!(fixed::decode(&encoded, 16), values);
    for bad in [f32::NAN, f32::INFINITY, 32_768.0, -40_000.0] {
        let expected = Error::OutOfRange { at: 1, bits: 15 };
        assert_eq!(fixed::encode(&[0.0, bad], 16), Err(expected));
    }
}
