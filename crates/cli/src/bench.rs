//! Figures with stable names: what they should be, what they are, what others reach.

mod case;
mod clock;
pub(crate) mod ensemble;
pub(crate) mod gomez;
mod he;
mod layers;
mod mnist;
mod page;
mod peers;

pub(crate) use case::{Better, Case, Outcome, Settings};
pub(crate) use page::{Results, page};

/// Every case of every group, in the order of the listing.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    let groups = [
        he::CASES,
        layers::CASES,
        mnist::CASES,
        gomez::CASES,
        ensemble::CASES,
    ];
    groups.into_iter().flatten()
}

/// The cases whose id is `wanted` or lies below it (`he`, `he.ntt`, `he.ntt.n8192`).
pub(crate) fn select(wanted: Option<&str>) -> Vec<&'static Case> {
    let below = |id: &str, group: &str| {
        id.strip_prefix(group)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let chosen = |case: &&Case| wanted.is_none_or(|group| below(case.id, group));
    let cases: Vec<&Case> = all().filter(chosen).collect();
    if wanted == Some(gomez::GROUP) {
        // Its targets are for another machine: what that factor is shows in the same run.
        let known = |case: &&Case| gomez::REFERENCES.contains(&case.id);
        return all().filter(known).chain(cases).collect();
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_case_quotes_its_target() {
        let cases: Vec<&Case> = all().collect();
        for (i, case) in cases.iter().enumerate() {
            assert!(
                cases[..i].iter().all(|other| other.id != case.id),
                "{} twice",
                case.id
            );
            assert!(!case.unit.is_empty());
        }
    }

    #[test]
    fn a_group_selects_whole_parts_of_a_name_only() {
        assert!(
            select(Some("he.ntt"))
                .iter()
                .all(|case| case.id.starts_with("he.ntt."))
        );
        assert!(select(Some("he.nt")).is_empty());
        assert!(!select(Some("he")).is_empty());
        assert!(
            select(Some("gomez"))
                .iter()
                .any(|case| case.id == "he.ntt.n8192")
        );
    }
}
