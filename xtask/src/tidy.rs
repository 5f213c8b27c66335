//! Laws of the house that a machine can check; ARCHITECTURE.md states them.
//!
//! Each rule is a function from the tree to offences. A rule never repairs anything.

mod dependencies;
mod documents;
mod layout;
mod size;
mod source;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// What a run of all rules found.
pub struct Report {
    /// Number of files looked at.
    pub files: usize,
    /// Broken rules, sorted by place.
    pub offences: Vec<Offence>,
}

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    path: String,
    line: usize,
    message: String,
}

impl Offence {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// One file of the tree; `path` is relative to the root and uses `/`.
struct File {
    path: String,
    bytes: u64,
    /// `None` for anything that is not UTF-8 text.
    text: Option<String>,
    tracked: bool,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Tests, benches and examples may name what the product must not.
    fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
    }

    /// Name of the workspace crate that the file belongs to, if any.
    fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }
}

/// Every file that is, or could be, committed.
struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

impl Tree {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let tracked = git_files(root, &["--cached"]);
        let (tracked, untracked) = match tracked {
            Some(list) => (list, git_files(root, &["--others", "--exclude-standard"])),
            None => (walk(root)?, None),
        };
        let mut files = Vec::new();
        for (list, tracked) in [(tracked, true), (untracked.unwrap_or_default(), false)] {
            for path in list {
                files.extend(read_file(root, path, tracked)?);
            }
        }
        Ok(Self {
            root: root.to_owned(),
            files,
        })
    }

    fn rust(&self) -> impl Iterator<Item = (&File, &str)> {
        self.files
            .iter()
            .filter(|file| file.is_rust())
            .filter_map(|file| Some((file, file.text.as_deref()?)))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)?
            .text
            .as_deref()
    }
}

/// Folder that holds the workspace manifest.
pub fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs every rule over the tree at `root`.
///
/// # Errors
/// If a file cannot be read or a manifest is not TOML.
pub fn check(root: &Path) -> anyhow::Result<Report> {
    let tree = Tree::read(root)?;
    let mut offences = Vec::new();
    layout::check(&tree, &mut offences);
    documents::check(&tree, &mut offences);
    words::check(&tree, &mut offences);
    source::check(&tree, &mut offences);
    dependencies::check(&tree, &mut offences)?;
    size::check(&tree, &mut offences)?;
    offences.sort();
    offences.dedup();
    Ok(Report {
        files: tree.files.len(),
        offences,
    })
}

/// Paths that git lists, or `None` where there is no git or no checkout (a source archive).
fn git_files(root: &Path, which: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .args(which)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    Some(
        list.split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

/// Fallback for source archives: everything but build output.
fn walk(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            if entry.file_type()?.is_dir() {
                if name != ".git" && !name.starts_with("target") {
                    folders.push(path);
                }
            } else {
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}

fn read_file(root: &Path, path: String, tracked: bool) -> anyhow::Result<Option<File>> {
    let full = root.join(&path);
    // A file that is deleted but not yet committed is listed and absent.
    if !full.is_file() {
        return Ok(None);
    }
    let content = std::fs::read(&full).with_context(|| format!("reading {path}"))?;
    let bytes = content.len() as u64;
    Ok(Some(File {
        path,
        bytes,
        text: String::from_utf8(content).ok(),
        tracked,
    }))
}

#[cfg(test)]
mod tests;
