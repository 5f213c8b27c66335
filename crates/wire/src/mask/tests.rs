//! Offers, releases and the seeds that come of them.

use super::*;
use crate::roster::RosterEntry;
use std::num::NonZeroU8;

const SUBJECT: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// Holders of one roster with offers for one query.
struct Group {
    roster: Roster,
    subject: Subject,
    identities: Vec<HolderKey>,
    offers: Vec<Offer>,
    secrets: Vec<MaskSecrets>,
}

/// Places of a pair, whether the holder comes first, and the seed.
type Shared = ([u8; 2], bool, [u8; 32]);

fn name(place: usize) -> Name {
    Name::new(["alpha", "beta", "gamma", "delta"][place]).expect("a name")
}

fn group(count: usize, min_holders: usize) -> Group {
    let made = |_| HolderKey::from_bytes(&HolderKey::generate().expect("made"));
    let identities: Vec<HolderKey> = (0..count).map(|n| made(n).expect("read")).collect();
    let entry = |(place, identity): (usize, &HolderKey)| RosterEntry {
        name: name(place),
        key: identity.id(),
        weight: NonZeroU8::new(1 + place as u8).expect("not zero"),
    };
    let roster = Roster::new(identities.iter().enumerate().map(entry).collect());
    let roster = roster.expect("a roster");
    let [face, query] = SUBJECT.map(Digest);
    let subject = Subject {
        face,
        query,
        roster: roster.digest(),
    };
    let (mut offers, mut secrets) = (Vec::new(), Vec::new());
    for (place, identity) in identities.iter().enumerate() {
        let (secret, keys) = MaskSecrets::draw(&roster, place).expect("drawn");
        offers.push(Offer::sign(
            &subject,
            name(place),
            min_holders,
            keys,
            identity,
        ));
        secrets.push(secret);
    }
    Group {
        roster,
        subject,
        identities,
        offers,
        secrets,
    }
}

impl Group {
    fn release(&self, places: &[usize]) -> Release {
        let member = |&place: &usize| Member::of(&self.offers[place], 1 + place as u8);
        Release {
            user: UserId([3; 32]),
            nonce: Nonce([4; 16]),
            query: self.subject.query,
            members: places.iter().map(member).collect(),
        }
    }

    fn check(&self, release: &Release, place: usize) -> Result<(), MaskFault> {
        release.check(&self.subject, &self.roster, &self.offers[place])
    }

    /// Seeds of each holder for every other one, each told another release.
    fn seeds(self, releases: &[Release]) -> Vec<Vec<Shared>> {
        let mut all = Vec::new();
        for (secrets, release) in self.secrets.into_iter().zip(releases) {
            let pairs = secrets.agree(release, &self.subject, &self.roster);
            let pairs = pairs.expect("agreed").into_iter();
            all.push(pairs.map(|p| (p.places, p.first, *p.seed(0))).collect());
        }
        all
    }
}

#[test]
fn every_two_holders_have_one_seed_with_two_signs_and_no_other_two_have_it() {
    let group = group(4, 2);
    let release = group.release(&[0, 1, 3]);
    for place in [0, 1, 3] {
        assert_eq!(group.check(&release, place), Ok(()));
    }
    let seeds = group.seeds(&vec![release; 4]);
    assert_eq!([0, 1, 3].map(|place: usize| seeds[place].len()), [2; 3]);
    let shared = |of: usize, places: [u8; 2]| {
        let mut pairs = seeds[of].iter();
        let found = pairs.find(|(pair, ..)| *pair == places).expect("a pair");
        (found.1, found.2)
    };
    let mut distinct = std::collections::BTreeSet::new();
    for places in [[0, 1], [0, 3], [1, 3]] {
        let [low, high] = places.map(|place: u8| shared(place as usize, places));
        assert_eq!((low.0, high.0), (true, false));
        assert_eq!(low.1, high.1);
        assert!(distinct.insert(low.1));
    }
}

#[test]
fn seeds_differ_for_every_ciphertext_and_whenever_anything_is_told_differently() {
    let changes: [fn(&mut Release); 4] = [
        |release| release.members[2].weight = 9,
        |release| release.members[2].keys[0].0[0] ^= 1,
        |release| drop(release.members.remove(2)),
        |release| release.members.swap(0, 2),
    ];
    for (number, change) in changes.iter().enumerate() {
        let group = group(3, 2);
        let told = group.release(&[0, 1, 2]);
        let mut other = told.clone();
        change(&mut other);
        let seeds = group.seeds(&[told, other]);
        let of = |place: usize| {
            let pair = seeds[place].iter().find(|(pair, ..)| *pair == [0, 1]);
            pair.expect("a pair").2
        };
        assert_ne!(of(0), of(1), "change {number}");
    }
    let group = group(3, 2);
    let (subject, roster) = (group.subject, group.roster.clone());
    let release = group.release(&[0, 1, 2]);
    let secrets = group.secrets.into_iter().next().expect("secrets");
    let pairs = secrets.agree(&release, &subject, &roster).expect("agreed");
    assert_ne!(*pairs[0].seed(0), *pairs[0].seed(1));
    assert!(format!("{:?}", pairs[0]).contains("redacted"));
}

#[test]
fn a_release_is_of_the_roster_in_order_with_its_weights_and_signed_keys() {
    let group = group(4, 3);
    let word = |change: &dyn Fn(&mut Release), place: usize| {
        let mut release = group.release(&[0, 1, 2, 3]);
        change(&mut release);
        group.check(&release, place).expect_err("refused").word()
    };
    let swapped = group.offers[0].keys.clone();
    type Change<'a> = &'a dyn Fn(&mut Release);
    let cases: [(&str, Change<'_>); 10] = [
        ("too-few", &|r| r.members.truncate(2)),
        ("order", &|r| r.members.swap(0, 1)),
        ("order", &|r| r.members[1] = r.members[0].clone()),
        ("unknown-holder", &|r| {
            r.members[3].holder = Name::new("omega").expect("a name");
        }),
        ("keys", &|r| r.members[3].keys.truncate(2)),
        ("signature", &|r| r.members[3].keys = swapped.clone()),
        ("signature", &|r| r.members[3].keys.swap(0, 1)),
        ("signature", &|r| r.members[3].signature.0[0] ^= 1),
        ("weight", &|r| r.members[3].weight = 5),
        ("weight", &|r| r.members[3].weight = 0),
    ];
    for (expected, change) in cases {
        assert_eq!(word(change, 0), expected);
    }
    assert_eq!(word(&|r| drop(r.members.remove(0)), 0), "absent");
    // Signed by itself, but not what it offered for this query.
    let (_, keys) = MaskSecrets::draw(&group.roster, 0).expect("drawn");
    let other = Offer::sign(&group.subject, name(0), 3, keys, &group.identities[0]);
    let changed = |r: &mut Release| r.members[0] = Member::of(&other, 1);
    assert_eq!(word(&changed, 0), "changed");
}

#[test]
fn an_offer_is_for_one_query_face_roster_and_name() {
    let group = group(3, 2);
    let offer = &group.offers[1];
    assert_eq!(offer.check(&group.subject, &group.roster), Ok(()));
    let subjects: [fn(&mut Subject); 2] = [
        |subject| subject.face.0[0] ^= 1,
        |subject| subject.query.0[0] ^= 1,
    ];
    for change in subjects {
        let mut subject = group.subject;
        change(&mut subject);
        let found = offer.check(&subject, &group.roster).expect_err("refused");
        assert_eq!(found.word(), "signature");
    }
    type Change = fn(&mut Offer);
    let offers: [(&str, Change); 4] = [
        ("other-roster", |offer| offer.roster.0[0] ^= 1),
        ("signature", |offer| offer.holder = name(2)),
        ("unknown-holder", |offer| offer.holder = name(3)),
        ("keys", |offer| offer.keys.push(MaskKey([0; 32]))),
    ];
    for (expected, change) in offers {
        let mut offer = offer.clone();
        change(&mut offer);
        let found = offer.check(&group.subject, &group.roster);
        assert_eq!(found.expect_err("refused").word(), expected);
    }
}

#[test]
fn a_key_of_low_order_is_refused_though_it_is_signed() {
    let mut group = group(2, 2);
    let keys = vec![MaskKey([0; 32])];
    group.offers[1] = Offer::sign(&group.subject, name(1), 2, keys, &group.identities[1]);
    let release = group.release(&[0, 1]);
    assert_eq!(group.check(&release, 0), Ok(()));
    let secrets = group.secrets.swap_remove(0);
    let found = secrets.agree(&release, &group.subject, &group.roster);
    assert_eq!(found.expect_err("refused").word(), "agreement");
}

#[test]
fn messages_survive_their_bytes_and_nothing_else_is_read() {
    let group = group(2, 2);
    let (offer, release) = (&group.offers[0], group.release(&[0, 1]));
    assert_eq!(Offer::from_bytes(&offer.to_bytes()).as_ref(), Ok(offer));
    assert_eq!(
        Release::from_bytes(&release.to_bytes()),
        Ok(release.clone())
    );
    let bytes = release.to_bytes();
    for length in 0..bytes.len() {
        assert!(Release::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    for (from, to) in [
        (r#""weight":1"#, r#""weight":256"#),
        (r#""weight":1"#, r#""more":1,"weight":1"#),
        (r#""weight":1"#, r#""weight":1,"weight":1"#),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        assert!(Release::from_bytes(changed.as_bytes()).is_err(), "{to}");
    }
    let mut many = release;
    many.members = vec![many.members[0].clone(); limits::HOLDERS + 1];
    let found = Release::from_bytes(&many.to_bytes());
    assert!(matches!(found, Err(WireError::AboveLimit { .. })));
    let large = vec![b' '; limits::RELEASE_BYTES + 1];
    let found = Release::from_bytes(&large);
    assert!(matches!(found, Err(WireError::TooLarge { .. })));
}

#[test]
fn the_largest_release_is_within_its_limit() {
    let member = Member {
        holder: Name::new(&"x".repeat(63)).expect("a name"),
        weight: 255,
        keys: vec![MaskKey([0xff; 32]); limits::HOLDERS - 1],
        signature: Signature([0xff; 64]),
    };
    let release = Release {
        user: UserId([0xff; 32]),
        nonce: Nonce([0xff; 16]),
        query: Digest([0xff; 32]),
        members: vec![member; limits::HOLDERS],
    };
    assert!(release.to_bytes().len() < limits::RELEASE_BYTES);
    assert!(Release::from_bytes(&release.to_bytes()).is_ok());
}
