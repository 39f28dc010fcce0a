//! Rows of text as a table that fits a terminal.
//!
//! In: columns, cells. Out: lines of one width at most, if the columns can be cut so far. It must
//! stay true that nothing in a cell can move the cursor or begin a line: cells come from outside.

use std::borrow::Cow;

use super::terminal::{Colour, Style};

/// Without a terminal: in a file or a log, where lines may be long but should still be lines.
const WIDTH_ELSEWHERE: usize = 160;
/// Between two columns.
const GAP: &str = "  ";
/// What stands for what was cut.
const CUT: char = '…';

/// A table that grows by rows.
pub(super) struct Table {
    heads: &'static [&'static str],
    /// Which column may be cut to how many letters, in the order in which that is done.
    cuts: &'static [(usize, usize)],
    rows: Vec<Row>,
}

/// Its cells, and the colour of all of it.
struct Row {
    cells: Vec<String>,
    colour: Option<Colour>,
}

impl Table {
    /// No rows yet.
    pub fn new(heads: &'static [&'static str], cuts: &'static [(usize, usize)]) -> Self {
        Self { heads, cuts, rows: Vec::new() }
    }

    /// One more row; a cell a column.
    pub fn add(&mut self, cells: &[&str]) {
        self.add_in(None, cells);
    }

    /// The same in a colour.
    pub fn add_in(&mut self, colour: Option<Colour>, cells: &[&str]) {
        let cells = cells.iter().map(|cell| printable(cell).into_owned()).collect();
        self.rows.push(Row { cells, colour });
    }

    /// The lines, the head first, without colours.
    pub fn text(&self, width: usize) -> String {
        self.painted(width, |_, line| line.to_owned())
    }

    /// The lines, the head first.
    pub fn styled(&self, width: usize, style: Style) -> String {
        self.painted(width, |colour, line| {
            colour.map_or_else(|| line.to_owned(), |colour| style.paint(colour, line))
        })
    }

    fn painted(&self, width: usize, paint: impl Fn(Option<Colour>, &str) -> String) -> String {
        let widths = self.widths(width);
        let cells = self.heads.iter().map(|&head| head.to_owned()).collect();
        let head = Row { cells, colour: Some(Colour::Dim) };
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = row.cells.iter().zip(&widths).map(|(cell, width)| fitted(cell, *width));
            text += &paint(row.colour, cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }

    /// As wide as the widest cell, and then narrower, column by column, until it fits.
    fn widths(&self, width: usize) -> Vec<usize> {
        let letters = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = (0..)
            .zip(self.heads)
            .map(|(at, head)| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(at));
                cells.map(|cell| letters(cell)).max().unwrap_or(0).max(letters(head))
            })
            .collect();
        let gaps = GAP.len() * self.heads.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        for (at, least) in self.cuts {
            let (Some(head), Some(width)) = (self.heads.get(*at), widths.get_mut(*at)) else {
                continue;
            };
            let cut = width.saturating_sub((*least).max(letters(head))).min(over);
            *width -= cut;
            over -= cut;
        }
        widths
    }
}

/// A cell of exactly that many letters.
pub(super) fn fitted(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return format!("{cell:<width$}");
    }
    cell.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

/// The text without anything that a terminal would obey.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    } else {
        text.into()
    }
}

/// The width to fit into.
pub(super) fn width() -> usize {
    // A terminal that was never given a size says 0.
    match terminal_size::terminal_size() {
        Some((terminal_size::Width(width @ 1..), _)) => usize::from(width),
        _ => WIDTH_ELSEWHERE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "NAME", "ERROR"], &[(2, 10), (1, 6), (2, 6), (1, 5)]);
        table.add(&["1", "first of all", "WRONGTYPE Operation"]);
        table.add(&["4711", "second", ""]);
        table
    }

    #[test]
    fn a_table_with_room_shows_everything() {
        let text = table().text(80);
        assert_eq!(
            text,
            "ID    NAME          ERROR\n\
             1     first of all  WRONGTYPE Operation\n\
             4711  second\n"
        );
    }

    #[test]
    fn without_room_columns_are_cut_in_their_turn_and_an_id_never() {
        assert_eq!(
            table().text(30),
            "ID    NAME          ERROR\n\
             1     first of all  WRONGTYPE…\n\
             4711  second\n"
        );
        assert_eq!(
            table().text(20),
            "ID    NAME    ERROR\n\
             1     first…  WRONG…\n\
             4711  second\n"
        );
        let narrow = table().text(1);
        assert!(narrow.lines().all(|line| line.chars().count() <= 19), "{narrow}");
        assert!(narrow.contains("4711  seco…\n"), "{narrow}");
    }

    #[test]
    fn what_a_cell_says_stays_in_its_cell() {
        let mut table = Table::new(&["ID", "ERROR"], &[(1, 5)]);
        table.add(&["1", "a\nb\x1b[2Jc\u{9b}d"]);
        assert_eq!(table.text(80), "ID  ERROR\n1   a b [2Jc d\n");
    }

    #[test]
    fn letters_are_counted_not_bytes() {
        let mut table = Table::new(&["ID", "ERROR"], &[(1, 5)]);
        table.add(&["ü", "äöüäöüäöü"]);
        assert_eq!(table.text(9), "ID  ERROR\nü   äöüä…\n");
    }
}
