//! Where data sets are found, and how missing ones are fetched.

pub(crate) mod catalog;
pub(crate) mod fetch;

use std::path::{Path, PathBuf};

use crate::context::Context;

/// Folders that may hold data sets, in order of preference.
pub(crate) fn search_path(context: &Context) -> Vec<PathBuf> {
    let given = context.data_dir.clone();
    let variable = std::env::var_os("SCURO_DATA")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from);
    let beside = repository_folder().map(|root| root.join("../shared/data"));
    let here = Some(PathBuf::from("../shared/data"));
    [given, variable, here, beside, cache_folder()]
        .into_iter()
        .flatten()
        .collect()
}

/// The first folder of the search path that holds `name` as a folder.
pub(crate) fn locate(context: &Context, name: &str) -> Option<PathBuf> {
    let complete = |folder: &PathBuf| catalog::is_present(folder, name);
    search_path(context)
        .into_iter()
        .map(|root| root.join(name))
        .find(complete)
}

/// Where fetched data goes: `$XDG_CACHE_HOME/scuro` or `~/.cache/scuro`.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let xdg = std::env::var_os("XDG_CACHE_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    xdg.or(home).map(|cache| cache.join("scuro"))
}

/// The checkout that the binary lies in (`target/release/scuro` -> its root), if any.
fn repository_folder() -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?;
    let root = binary
        .ancestors()
        .find(|folder| folder.join("Cargo.toml").is_file());
    root.map(Path::to_path_buf)
}
