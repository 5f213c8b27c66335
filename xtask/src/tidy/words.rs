//! Words that never land on main, whatever the file.

use super::{Offence, Tree};

/// Left-overs in Rust sources. They are put together here so that this file does not offend.
const LEFT_OVERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ig", "nore"),
    concat!("allow(dead", "_code"),
    concat!("allow(un", "used"),
    concat!("allow(clippy::", "all"),
];

/// First folders of absolute paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["home", "root", "work", "Users", "mnt"];

const LINE_CHARACTERS_MAX: usize = 100;

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for file in &tree.files {
        let Some(text) = file.text.as_deref() else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if file.is_rust() {
                left_overs(&file.path, index + 1, line, offences);
            }
            if let Some(folder) = machine_folder(line) {
                let message = format!("names a path of one machine (/{folder}/...)");
                offences.push(Offence::new(&file.path, index + 1, message));
            }
        }
    }
}

fn left_overs(path: &str, number: usize, line: &str, offences: &mut Vec<Offence>) {
    let width = line.chars().count();
    if width > LINE_CHARACTERS_MAX {
        let message = format!("{width} columns; at most {LINE_CHARACTERS_MAX}");
        offences.push(Offence::new(path, number, message));
    }
    for word in LEFT_OVERS.iter().filter(|word| line.contains(**word)) {
        offences.push(Offence::new(
            path,
            number,
            format!("`{word}` does not land on main"),
        ));
    }
}

/// Finds `/folder/` that starts a path, not one in the middle of a longer path or address.
fn machine_folder(line: &str) -> Option<&'static str> {
    MACHINE_FOLDERS.iter().copied().find(|folder| {
        let needle = format!("/{folder}/");
        line.match_indices(&needle).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && !"./_-}~)".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::machine_folder;

    #[test]
    fn absolute_paths_of_one_machine_are_found() {
        assert_eq!(
            machine_folder(concat!("open(\"/ho", "me/me/data\")")),
            Some("home")
        );
        let address = concat!("see https://example.org/ho", "me/page");
        assert_eq!(machine_folder(address), None);
        let relative = concat!("frame/ho", "me/group and ../ho", "me/data");
        assert_eq!(machine_folder(relative), None);
    }
}
