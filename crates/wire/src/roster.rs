//! The roster of holders that mask their predictions: who they are, and what each counts.
//!
//! ```toml
//! [[holder]]
//! name = "alpha"
//! key = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
//! weight = 2          # in the sum; 1 if it is left out
//! ```
//!
//! Its order is everybody's order. All holders and the coordinator have the same roster; its
//! [digest](Roster::digest) says whether they do, however the file is written.

use std::num::NonZeroU8;

use serde::Deserialize;

use crate::error::WireError;
use crate::hex::{Digest, HolderId};
use crate::limits;
use crate::name::Name;

/// Fewest holders that hide anything in a sum.
pub const HOLDERS_MIN: usize = 2;

/// Holders in everybody's order; names and keys differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    holders: Vec<RosterEntry>,
}

/// A holder of a roster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEntry {
    /// What it is called.
    pub name: Name,
    /// The public half of its identity.
    pub key: HolderId,
    /// How often its prediction counts in a sum: nobody masks for other weights.
    #[serde(default = "once")]
    pub weight: NonZeroU8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    holder: Vec<RosterEntry>,
}

fn once() -> NonZeroU8 {
    NonZeroU8::MIN
}

impl Roster {
    /// A roster of these holders.
    ///
    /// # Errors
    /// [`WireError::Roster`] for fewer than [`HOLDERS_MIN`], more than [`limits::HOLDERS`], or a
    /// name or a key that comes twice.
    pub fn new(holders: Vec<RosterEntry>) -> Result<Self, WireError> {
        let fault = |found, expected| Err(WireError::Roster { found, expected });
        let count = holders.len();
        if !(HOLDERS_MIN..=limits::HOLDERS).contains(&count) {
            return fault(format!("{count} holders"), "2 to 64");
        }
        for (at, entry) in holders.iter().enumerate() {
            let before = &holders[..at];
            if before.iter().any(|other| other.name == entry.name) {
                return fault(format!("{} twice", entry.name), "every name once");
            }
            if before.iter().any(|other| other.key == entry.key) {
                let found = format!("the key of {} twice", entry.name);
                return fault(found, "a key for every holder");
            }
        }
        Ok(Self { holders })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] above [`limits::ROSTER_BYTES`], [`WireError::Toml`], and as
    /// [`Roster::new`].
    pub fn from_toml(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "roster";
        WireError::check_size(what, bytes.len(), limits::ROSTER_BYTES)?;
        let toml = |message: String| WireError::Toml { what, message };
        let text = std::str::from_utf8(bytes).map_err(|error| toml(error.to_string()))?;
        let file = toml::from_str::<File>(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            toml(format!("line {line}: {}", error.message()))
        })?;
        Self::new(file.holder)
    }

    /// The holders, in order.
    pub fn holders(&self) -> &[RosterEntry] {
        &self.holders
    }

    /// The place of a holder.
    pub fn place(&self, name: &Name) -> Option<usize> {
        self.holders.iter().position(|entry| entry.name == *name)
    }

    /// Names the content: holders, keys, weights and their order.
    ///
    /// Math:   BLAKE3("scuro ensemble roster 1\n" | for each: bytes of the name (1), name,
    ///         key (32), weight (1))
    pub fn digest(&self) -> Digest {
        let mut text = b"scuro ensemble roster 1\n".to_vec();
        for entry in &self.holders {
            push_name(&mut text, &entry.name);
            text.extend_from_slice(&entry.key.0);
            text.push(entry.weight.get());
        }
        Digest::of(&text)
    }
}

/// A name after its length; names have at most 63 bytes.
pub(crate) fn push_name(text: &mut Vec<u8>, name: &Name) {
    text.push(name.as_str().len() as u8);
    text.extend_from_slice(name.as_str().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        HolderId([byte; 32]).to_string()
    }

    fn file() -> String {
        format!(
            "[[holder]]\nname = \"alpha\"\nkey = \"{}\"\n\n[[holder]]\nname = \"beta\"\nkey = \
             \"{}\"\nweight = 3\n",
            key(1),
            key(2)
        )
    }

    fn read(text: &str) -> Result<Roster, WireError> {
        Roster::from_toml(text.as_bytes())
    }

    #[test]
    fn a_roster_says_who_and_how_much_in_order() {
        let roster = read(&file()).expect("a roster");
        let found: Vec<(&str, u8)> = roster
            .holders()
            .iter()
            .map(|entry| (entry.name.as_str(), entry.weight.get()))
            .collect();
        assert_eq!(found, [("alpha", 1), ("beta", 3)]);
        let place = |name: &str| roster.place(&Name::new(name).expect("a name"));
        assert_eq!((place("beta"), place("gamma")), (Some(1), None));
    }

    #[test]
    fn the_digest_is_of_the_content_and_not_of_the_spelling() {
        let roster = read(&file()).expect("a roster");
        let spelled = file().replace("name = \"alpha\"", "weight = 1 # once\nname = 'alpha'");
        let same = read(&spelled).expect("the same");
        assert_eq!(same.digest(), roster.digest());
        let swapped = Roster::new(roster.holders().iter().rev().cloned().collect());
        let mut others = vec![swapped.expect("a roster")];
        for (from, to) in [
            ("beta", "gamma"),
            (&key(2), &key(3)),
            ("weight = 3", "weight = 4"),
        ] {
            others.push(read(&file().replace(from, to)).expect("another"));
        }
        for other in others {
            assert_ne!(other.digest(), roster.digest(), "{other:?}");
        }
    }

    #[test]
    fn what_is_no_roster_is_an_error_that_says_where() {
        for (from, to) in [
            ("beta", "alpha"),
            (&key(2)[..], &key(1)[..]),
            ("weight = 3", "weight = 0"),
            ("weight = 3", "weight = 256"),
            ("weight = 3", "weight = 1.5"),
            ("weight = 3", "port = 3"),
            ("beta", "Beta"),
            (&key(2), "00"),
            ("[[holder]]\nname = \"beta\"", "[[user]]\nname = \"beta\""),
            ("name = \"beta\"", "name = \"beta\"\nname = \"beta\""),
        ] {
            let found = read(&file().replace(from, to)).expect_err(to);
            let typed = matches!(found, WireError::Toml { .. } | WireError::Roster { .. });
            assert!(typed, "{to}: {found}");
        }
        let late = read(&file().replace("weight = 3", "weight = 0")).expect_err("no weight");
        assert!(late.to_string().contains("line 8"), "{late}");
        let alone = file().split("\n\n").next().expect("one").to_string();
        for few in ["", &alone] {
            assert!(read(few).is_err(), "{few}");
        }
        let large = format!("{}#{}", file(), " ".repeat(limits::ROSTER_BYTES));
        assert!(matches!(read(&large), Err(WireError::TooLarge { .. })));
        assert!(Roster::from_toml(&[0xff]).is_err());
    }

    #[test]
    fn the_number_of_holders_is_bounded() {
        let entry = |number: usize| RosterEntry {
            name: Name::new(&format!("holder-{number}")).expect("a name"),
            key: HolderId([number as u8; 32]),
            weight: once(),
        };
        let of = |count| Roster::new((0..count).map(entry).collect());
        assert!(of(limits::HOLDERS).is_ok());
        assert!(matches!(
            of(limits::HOLDERS + 1),
            Err(WireError::Roster { .. })
        ));
    }
}
