//! Plain tables: columns aligned by their widest cell, numbers to the right.

use crate::style::{Style, visible_width};

/// A table under construction.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads; none for a list of name and value.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self {
            heads: heads.iter().map(|h| (*h).to_string()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// The text, a line feed after each line.
    pub(crate) fn render(&self, style: Style) -> String {
        let widths = self.widths();
        let right: Vec<bool> = (0..widths.len()).map(|i| self.is_numeric(i)).collect();
        let mut text = String::new();
        if !self.heads.is_empty() {
            let heads: Vec<String> = self.heads.iter().map(|h| style.bold(h)).collect();
            push_line(&mut text, &heads, &widths, &right);
            let rules: Vec<String> = widths.iter().map(|w| style.dim(&"─".repeat(*w))).collect();
            push_line(&mut text, &rules, &widths, &right);
        }
        for row in &self.rows {
            push_line(&mut text, row, &widths, &right);
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let all = || std::iter::once(&self.heads).chain(&self.rows);
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let cell_width = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |c| visible_width(c));
        (0..columns)
            .map(|i| all().map(|row| cell_width(row, i)).max().unwrap_or(0))
            .collect()
    }

    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .peekable();
        cells.peek().is_some() && cells.all(|cell| looks_numeric(cell))
    }
}

fn looks_numeric(cell: &str) -> bool {
    let digits = cell
        .trim_start_matches("\x1b[")
        .trim_start_matches(['-', '+', '≤', '≥', ' ']);
    cell.is_empty() || cell == "–" || digits.starts_with(|c: char| c.is_ascii_digit())
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize], right: &[bool]) {
    let mut line = String::new();
    for (i, cell) in cells.iter().enumerate() {
        let pad = " ".repeat(widths[i].saturating_sub(visible_width(cell)));
        if i > 0 {
            line.push_str("  ");
        }
        if right[i] {
            line.push_str(&pad);
        }
        line.push_str(cell);
        if !right[i] {
            line.push_str(&pad);
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["name", "ms"]);
        table.row(["a", "7.5"]).row(["longer", "12.25"]);
        let text = table.render(Style { color: false });
        assert_eq!(
            text,
            "name       ms\n──────  ─────\na         7.5\nlonger  12.25\n"
        );
    }

    #[test]
    fn colours_take_no_columns() {
        let mut table = Table::new(&[]);
        table
            .row([Style { color: true }.good("ok").as_str(), "x"])
            .row(["no", "y"]);
        let text = table.render(Style { color: true });
        assert_eq!(text, "\x1b[32mok\x1b[0m  x\nno  y\n");
    }
}
