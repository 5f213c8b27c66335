//! The page of the encrypted model: the paper's tables, ours beside them.

use crate::bench::gomez::{self, Tables};
use crate::units;

use super::page::{MARK, footer, page};
use super::{escape, sections, table};

/// A page with a section for each table.
pub(crate) fn tables_page(tables: &Tables) -> String {
    page(
        "Scuro: encrypted model",
        &format!("{}{}", hero(tables), tables_body(tables)),
        &footer(&tables.header),
    )
}

/// The sections.
pub(super) fn tables_body(tables: &Tables) -> String {
    let body: String = gomez::sheets(tables)
        .iter()
        .map(|sheet| {
            let cells = |row: &Vec<String>| row.iter().map(|cell| escape(cell)).collect();
            let rows: Vec<Vec<String>> = sheet.rows.iter().map(cells).collect();
            let lead = escape(&sheet.lead);
            sections::section(sheet.title, &lead, &table(&sheet.heads, &rows))
        })
        .collect();
    let missing: String = tables
        .missing
        .iter()
        .map(|line| format!("<li>{}</li>", escape(line)))
        .collect();
    let missing = match missing.is_empty() {
        true => String::new(),
        false => sections::section("Not measured", "", &format!("<ul>{missing}</ul>")),
    };
    body + &missing
}

fn hero(tables: &Tables) -> String {
    let best = tables.rows.iter().find(|row| row.network == "classifier");
    let title = best.map_or("An encrypted model".to_string(), |row| {
        let time = units::significant(row.sealed.usage.milliseconds);
        format!("An encrypted classifier answers an encrypted input in {time} ms")
    });
    format!(
        "<header><div class=brand>{MARK}<span>scuro</span></div><h1>{}</h1>\
         <p class=lead>The tables of Gomez, Wilhelm, Márquez, Duverger 2019, measured again: {}.\
         </p></header>",
        escape(&title),
        escape(&tables.method)
    )
}
