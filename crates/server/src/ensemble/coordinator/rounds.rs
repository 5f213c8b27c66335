//! Two rounds with holders that mask: who offers is told who else did, and releases for that sum.
//!
//! A holder that is missing in the first round is left out. One that is missing in the second has
//! its masks in the others' replies: nothing can be read then, and the user must sign anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scuro_fhe::AnyCiphertext;
use scuro_wire::mask::{Member as InSum, Offer, Release, Subject};
use scuro_wire::roster::Roster;

use super::{Coordinator, Harvest};
use crate::ensemble::desk::Admitted;
use crate::ensemble::fault::Fault;
use crate::ensemble::member::Member;

/// Time that a release has if the first round has used up the deadline: nothing is computed for it
/// but masks.
const RELEASE_TIME: Duration = Duration::from_secs(5);

impl Coordinator {
    /// Masked predictions of all who offer some; in their sum the masks cancel.
    ///
    /// # Errors
    /// [`Fault::Quorum`], [`Fault::Masks`].
    pub(super) async fn masked_replies(
        &self,
        roster: &Arc<Roster>,
        query: &Arc<Admitted>,
    ) -> Result<Harvest<Vec<AnyCiphertext>>, Fault> {
        let start = Instant::now();
        let offers = self.offers(roster, query).await;
        let holder_needs = offers.answers.iter().map(|(_, offer)| offer.min_holders);
        let needed = holder_needs.max().unwrap_or(0).max(self.min_holders);
        // Whatever a holder says, more than everybody cannot be needed.
        self.check_quorum(&offers, needed.min(self.members.len()))?;
        let release = release(query, roster, &offers.answers).to_bytes();
        let rest = self.deadline.saturating_sub(start.elapsed());
        let places = offers.answers.iter().map(|(place, _)| *place);
        let ask = |_, member: Arc<Member>| {
            let (query, desk) = (Arc::clone(query), Arc::clone(&self.desk));
            let release = release.clone();
            async move { member.release(&query, &desk, release).await }
        };
        let released = self.ask(places, rest.max(RELEASE_TIME), ask).await;
        if released.answers.len() == offers.answers.len() {
            return Ok(Harvest {
                answers: released.answers,
                answered: offers.answered,
                lapses: offers.lapses,
            });
        }
        for (place, lapse) in &released.lapses {
            self.members[*place].dropped_out(lapse);
        }
        let left_out = self.left_out(released.lapses);
        Err(Fault::Masks { left_out })
    }

    async fn offers(&self, roster: &Arc<Roster>, query: &Arc<Admitted>) -> Harvest<Offer> {
        let subject = Subject {
            face: self.desk.contract.digest(),
            query: query.query.digest(),
            roster: roster.digest(),
        };
        let ask = |place, member: Arc<Member>| {
            let (query, roster) = (Arc::clone(query), Arc::clone(roster));
            async move { member.offer(&query, &subject, (&roster, place)).await }
        };
        let everybody = 0..self.members.len();
        self.ask(everybody, self.deadline, ask).await
    }
}

/// The sum of all who offered, with the weights of the roster.
fn release(query: &Admitted, roster: &Roster, offers: &[(usize, Offer)]) -> Release {
    let in_sum = |(place, offer): &(usize, Offer)| {
        let weight = roster.holders()[*place].weight.get();
        InSum::of(offer, weight)
    };
    Release {
        user: query.query.question.user,
        nonce: query.query.question.nonce,
        query: query.query.digest(),
        members: offers.iter().map(in_sum).collect(),
    }
}
