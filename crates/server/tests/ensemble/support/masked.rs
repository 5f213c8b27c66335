//! Holders that mask, and what a coordinator says to them, by hand.

use std::num::NonZeroU8;

use axum::body::Bytes;
use axum::http::Method;
use scuro_server::ensemble::coordinator;
use scuro_server::ensemble::holder::{self, Masks};
use scuro_wire::ensemble::{Caller, head_length, predict_headers};
use scuro_wire::mask::{HolderKey, Member, Offer, Release, Subject};
use scuro_wire::paths;
use scuro_wire::predict::{PredictQuery, PredictReply};
use scuro_wire::roster::{Roster, RosterEntry};
use scuro_wire::{Name, WireError};

use super::{
    Running, User, contract, coordinator_options, holder_options, holder_with, name, program,
};

/// A roster with its identities.
pub(crate) struct Group {
    pub(crate) roster: Roster,
    keys: Vec<Vec<u8>>,
}

impl Group {
    /// Holders `holder-1`, ... with these weights.
    pub(crate) fn new(weights: &[u8]) -> Self {
        let made = |_: &u8| HolderKey::generate().expect("made").to_vec();
        let keys: Vec<Vec<u8>> = weights.iter().map(made).collect();
        let entry = |(at, (key, &weight)): (usize, (&Vec<u8>, &u8))| RosterEntry {
            name: holder_name(at),
            key: HolderKey::from_bytes(key).expect("read").id(),
            weight: NonZeroU8::new(weight).expect("not zero"),
        };
        let entries = keys.iter().zip(weights).enumerate().map(entry);
        let roster = Roster::new(entries.collect()).expect("a roster");
        Self { roster, keys }
    }

    pub(crate) fn key(&self, at: usize) -> HolderKey {
        HolderKey::from_bytes(&self.keys[at]).expect("read")
    }

    /// The holder at a place, from 0.
    pub(crate) fn options(&self, at: usize, min_holders: Option<usize>) -> holder::Options {
        let number = at as u64 + 1;
        let mut options = holder_options(number, &program(number));
        options.masks = Some(Masks {
            roster: self.roster.clone(),
            key: self.key(at),
            min_holders,
        });
        options
    }

    pub(crate) async fn holders(&self, min_holders: Option<usize>) -> Vec<Running> {
        let mut holders = Vec::new();
        for at in 0..self.keys.len() {
            holders.push(holder_with(self.options(at, min_holders)).await);
        }
        holders
    }

    pub(crate) fn coordinator(&self, holders: &[std::net::SocketAddr]) -> coordinator::Options {
        let mut options = coordinator_options(holders);
        options.roster = Some(self.roster.clone());
        options
    }

    pub(crate) fn subject(&self, query: &PredictQuery) -> Subject {
        Subject {
            face: contract().digest(),
            query: query.digest(),
            roster: self.roster.digest(),
        }
    }

    /// A sum of those who offered.
    pub(crate) fn release(&self, query: &PredictQuery, offers: &[Offer]) -> Release {
        let member = |offer: &Offer| {
            let place = self.roster.place(&offer.holder).expect("in the roster");
            Member::of(offer, self.roster.holders()[place].weight.get())
        };
        Release {
            user: query.question.user,
            nonce: query.question.nonce,
            query: query.digest(),
            members: offers.iter().map(member).collect(),
        }
    }
}

/// The name of the holder at a place.
pub(crate) fn holder_name(at: usize) -> Name {
    name(&format!("holder-{}", at + 1))
}

/// Has a holder compute and hold.
pub(crate) async fn offer(caller: &mut Caller, query: &PredictQuery) -> Result<Offer, WireError> {
    let (head, body) = query.to_bytes();
    let headers = predict_headers(head);
    let sent = caller
        .send(Method::POST, paths::OFFER, &headers, body)
        .await?;
    Offer::from_bytes(&sent.body)
}

/// Offers of all holders, who have the user's keys then.
pub(crate) async fn offers(holders: &[Running], user: &User, query: &PredictQuery) -> Vec<Offer> {
    let mut offers = Vec::new();
    for holder in holders {
        let mut caller = holder.caller();
        user.upload(&mut caller).await;
        offers.push(offer(&mut caller, query).await.expect("offered"));
    }
    offers
}

/// Has a holder release.
pub(crate) async fn release(
    caller: &mut Caller,
    release: &Release,
) -> Result<PredictReply, WireError> {
    let body = release_bytes(caller, release.to_bytes()).await?;
    PredictReply::from_bytes(Some(&body.0), &body.1)
}

/// The same as bytes: length of the head, and all of it.
pub(crate) async fn release_bytes(
    caller: &mut Caller,
    body: Bytes,
) -> Result<(String, Bytes), WireError> {
    let sent = caller.send(Method::POST, paths::RELEASE, &[], body).await?;
    let head = head_length(&sent).expect("a length").to_string();
    Ok((head, sent.body))
}
