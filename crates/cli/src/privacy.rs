//! Who decrypts, and how strongly replies hide the weights from them.

use std::str::FromStr;

use scuro_program::{Flooding, LIMIT_DECRYPTIONS, LIMIT_FLOODING_BITS};

/// Who decrypts the replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum DecryptorChoice {
    /// The model owner, who may see how a reply was computed.
    #[default]
    Owner,
    /// Somebody who must learn the scores and nothing else of the weights: replies are
    /// re-randomised and flooded.
    Other,
}

/// `off`, `statistical:BITS`, `relaxed:BITS:DECRYPTIONS` or `estimated:BITS:DECRYPTIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloodingChoice(Option<Flooding>);

/// Bits of flooding, unless told otherwise.
const STATISTICAL_BITS: u32 = 40;

impl FromStr for FloodingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "off, statistical:BITS, relaxed:BITS:DECRYPTIONS or estimated:BITS:DECRYPTIONS"
                .to_owned()
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|&n| n > 0);
        let mut words = text.split(':');
        let kind = words.next().unwrap_or_default();
        let numbers: Option<Vec<u32>> = words.map(number).collect();
        let flooding = match (kind, numbers.ok_or_else(expected)?.as_slice()) {
            ("off", []) => None,
            ("statistical", &[bits]) => Some(Flooding::Statistical { bits }),
            ("relaxed", &[bits, decryptions]) => Some(Flooding::Relaxed { bits, decryptions }),
            ("estimated", &[bits, decryptions]) => Some(Flooding::Estimated { bits, decryptions }),
            _ => return Err(expected()),
        };
        let (bits, decryptions) = match flooding {
            None => (0, 0),
            Some(Flooding::Statistical { bits }) => (bits, 0),
            Some(
                Flooding::Relaxed { bits, decryptions } | Flooding::Estimated { bits, decryptions },
            ) => (bits, decryptions),
        };
        if bits > LIMIT_FLOODING_BITS {
            return Err(format!("at most {LIMIT_FLOODING_BITS} bits"));
        }
        if decryptions > LIMIT_DECRYPTIONS {
            return Err(format!("at most {LIMIT_DECRYPTIONS} decryptions"));
        }
        Ok(Self(flooding))
    }
}

/// How strongly replies are hidden: what was asked for, else what the role asks for.
pub(crate) fn flooding(
    decryptor: DecryptorChoice,
    asked: Option<FloodingChoice>,
) -> Option<Flooding> {
    match (asked, decryptor) {
        (Some(FloodingChoice(flooding)), _) => flooding,
        (None, DecryptorChoice::Owner) => None,
        (None, DecryptorChoice::Other) => Some(Flooding::Statistical {
            bits: STATISTICAL_BITS,
        }),
    }
}

/// What is wrong with a role whose replies are not flooded.
pub(crate) fn warning(
    decryptor: DecryptorChoice,
    flooding: Option<Flooding>,
) -> Option<&'static str> {
    let open = decryptor == DecryptorChoice::Other && flooding.is_none();
    open.then_some(
        "warning: --decryptor other without flooding: whoever decrypts can learn of the weights, \
         and a manifest will name the model owner as decryptor; leave --flooding off away",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_decryptor_gets_flooded_replies_unless_that_is_turned_off() {
        let forty = Some(Flooding::Statistical { bits: 40 });
        let off = "off".parse().ok();
        assert_eq!(flooding(DecryptorChoice::Owner, None), None);
        assert_eq!(flooding(DecryptorChoice::Other, None), forty);
        assert_eq!(flooding(DecryptorChoice::Other, off), None);
        let relaxed = "relaxed:20:1024".parse().ok();
        let (bits, decryptions) = (20, 1024);
        let expected = Some(Flooding::Relaxed { bits, decryptions });
        assert_eq!(flooding(DecryptorChoice::Owner, relaxed), expected);
        let estimated = "estimated:20:1024".parse().ok();
        let expected = Some(Flooding::Estimated { bits, decryptions });
        assert_eq!(flooding(DecryptorChoice::Other, estimated), expected);
    }

    #[test]
    fn only_another_decryptor_without_flooding_is_warned_of() {
        let off = "off".parse().ok();
        let of = |decryptor, asked| warning(decryptor, flooding(decryptor, asked)).is_some();
        assert!(of(DecryptorChoice::Other, off));
        assert!(!of(DecryptorChoice::Other, None));
        assert!(!of(DecryptorChoice::Owner, off));
    }

    #[test]
    fn half_a_flooding_and_one_beyond_the_limits_are_refused() {
        for text in [
            "",
            "on",
            "statistical",
            "statistical:0",
            "statistical:129",
            "relaxed:20",
            "relaxed:129:1024",
            "estimated:20",
            "relaxed:20:1073741825",
        ] {
            assert!(text.parse::<FloodingChoice>().is_err(), "{text:?}");
        }
    }
}
