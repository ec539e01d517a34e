//! Tables in the format of CoreOS fleet: Go's `text/tabwriter` with a tab width of 8, a padding of 1 and tabs as
//! padding. Owns the alignment and nothing else. Scripts split these lines at tabs, so the number of tabs must match
//! exactly.

use std::borrow::Cow;

const TAB_WIDTH: usize = 8;
const PADDING: usize = 1;

/// Render the rows, each ending in a newline. All rows have the same number of cells; the last cell isn't padded.
pub(in crate::cli) fn render(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let widest = rows.iter().filter_map(|row| row.get(column)).map(|(_, width)| *width).max().unwrap_or(0);
            (widest + PADDING).div_ceil(TAB_WIDTH) * TAB_WIDTH
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = widths.get(column).map_or(0, |w| w.saturating_sub(*width));
                text.extend(std::iter::repeat_n('\t', missing.div_ceil(TAB_WIDTH)));
            }
        }
        text.push('\n');
    }
    text
}

/// Replaces control characters, which could end the row or column. The width is as Go counts it: in characters, not in
/// columns of the terminal.
fn clean(cell: &str) -> (Cow<'_, str>, usize) {
    // Nearly all cells.
    if cell.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return (cell.into(), cell.len());
    }
    (cell.replace(char::is_control, " ").into(), cell.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> String {
        render(&rows.iter().map(|row| row.iter().map(|cell| (*cell).into()).collect()).collect::<Vec<_>>())
    }

    #[test]
    fn aligns_as_gos_tabwriter() {
        let machines: &[&[&str]] = &[
            &["MACHINE", "IP", "METADATA"],
            &["3ec325e8...", "10.88.0.13", "host=n3,zone=b"],
            &["844a981f...", "-", "-"],
        ];
        assert_eq!(
            table(machines),
            "MACHINE\t\tIP\t\tMETADATA\n3ec325e8...\t10.88.0.13\thost=n3,zone=b\n844a981f...\t-\t\t-\n"
        );
        // 7 characters and the padding fill a tab stop; 8 need two.
        assert_eq!(table(&[&["1234567", "x"]]), "1234567\tx\n");
        assert_eq!(table(&[&["12345678", "x"], &["1", "y"]]), "12345678\tx\n1\t\ty\n");
        // An empty column takes one tab stop, an empty last cell nothing.
        assert_eq!(table(&[&["", "x", ""]]), "\tx\t\n");
        assert_eq!(table(&[&["one"]]), "one\n");
        assert_eq!(table(&[&["äöüäöüäöü", "x"], &["a", "y"]]), "äöüäöüäöü\tx\na\t\ty\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn cells_cant_break_out() {
        assert_eq!(table(&[&["a\tb\nc", "\u{1b}[31mx"]]), "a b c\t [31mx\n");
    }
}
