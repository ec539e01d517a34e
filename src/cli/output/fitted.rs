//! Tables for people: columns aligned by blanks, at most as wide as the terminal, with colours if it has them. Owns the
//! layout and nothing else; `table` has the layout that scripts parse. Pure: rows and a width in, text out.

/// How a cell is emphasized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    /// As it is.
    Plain,
    /// All is well: green.
    Good,
    /// Something is going on or isn't as it should be: yellow.
    Busy,
    /// It failed: red.
    Bad,
    /// Unimportant: dim.
    Dim,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Dim => Some("2"),
        }
    }
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    text: String,
    /// What is enough of it where there is little room.
    brief: Option<String>,
    tone: Tone,
}

impl Cell {
    /// A cell with this emphasis. Control characters, which could end the row, become blanks.
    pub(in crate::cli) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = text.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { text, brief: None, tone }
    }

    /// The name of a unit: `.service` can be left out.
    pub(in crate::cli) fn unit(name: &str) -> Self {
        Self { brief: name.strip_suffix(".service").map(str::to_owned), ..Self::plain(name) }
    }

    /// A cell without emphasis.
    pub(in crate::cli) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn text(&self, brief: bool) -> &str {
        self.brief.as_deref().filter(|_| brief).unwrap_or(&self.text)
    }
}

/// What is between two columns.
const GAP: usize = 2;
/// No column gets narrower than this.
const NARROWEST: usize = 4;

/// Render the rows, each ending in a newline; `head` is the first. With a `width`, the widest columns are shortened
/// until every line has fewer characters than that.
pub(in crate::cli) fn render(head: &[&str], rows: &[Vec<Cell>], width: Option<usize>, colours: bool) -> String {
    let head = head.iter().map(Cell::plain).collect();
    let lines: Vec<&Vec<Cell>> =
        std::iter::once(&head).filter(|head: &&Vec<Cell>| !head.is_empty()).chain(rows).collect();
    let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let widths = |brief: bool| -> Vec<usize> {
        let cells = |column: usize| lines.iter().filter_map(move |line| line.get(column));
        let width = |cell: &Cell| cell.text(brief).chars().count();
        (0..columns).map(|column| cells(column).map(width).max().unwrap_or(0)).collect()
    };
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(1));
    let brief = total(&widths(false)) > room;
    let mut widths = widths(brief);
    shrink(&mut widths, room);
    lines.iter().map(|line| row(line, brief, &widths, colours)).collect()
}

/// How many characters a line has.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Make the widest columns narrower until all of them take at most `room`.
fn shrink(widths: &mut [usize], room: usize) {
    while total(widths) > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

fn row(cells: &[Cell], brief: bool, widths: &[usize], colours: bool) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let text = shortened(cell.text(brief), *width);
        let padding = if index + 1 < cells.len() { width - text.chars().count() + GAP } else { 0 };
        match cell.tone.code().filter(|_| colours) {
            Some(code) => line.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m")),
            None => line.push_str(&text),
        }
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// `text` in at most `width` characters. Names differ at their ends, so they are cut in the middle:
/// `order-backend…west-1.service`. Sentences are cut at the end.
fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let end = if text.contains(' ') { 0 } else { room / 2 };
    text.chars().take(room - end).chain(['…']).chain(text.chars().skip(length - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<Cell>> {
        rows.iter().map(|row| row.iter().map(Cell::plain).collect()).collect()
    }

    #[test]
    fn columns_are_aligned_and_fit() {
        let long = "order-backend-recalculation-worker@eu-west-1.service";
        let table = rows(&[&[long, "n3", "running", "2 d"], &["a.service", "n10", "failed", "4 min"]]);
        let head = ["UNIT", "HOST", "STATE", "SINCE"];
        assert_eq!(
            render(&head, &table, Some(80), false),
            "UNIT                                                  HOST  STATE    SINCE\n\
             order-backend-recalculation-worker@eu-west-1.service  n3    running  2 d\n\
             a.service                                             n10   failed   4 min\n"
        );
        assert_eq!(
            render(&head, &table, Some(45), false),
            "UNIT                    HOST  STATE    SINCE\n\
             order-backe…-1.service  n3    running  2 d\n\
             a.service               n10   failed   4 min\n"
        );
        assert!(render(&head, &table, None, false).contains(long));
        assert_eq!(render(&[], &[vec![Cell::plain("waiting: no host")]], Some(12), false), "waiting: n…\n");
        let unit = vec![Cell::unit("a.service"), Cell::unit("a.socket")];
        assert_eq!(render(&[], std::slice::from_ref(&unit), Some(20), false), "a.service  a.socket\n");
        assert_eq!(render(&[], &[unit], Some(16), false), "a  a.socket\n");
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal() {
        let wide = "x".repeat(200);
        for width in [30, 45, 80, 120] {
            for columns in 1..=5 {
                let table = vec![vec![Cell::plain(&wide); columns], vec![Cell::plain("ü".repeat(90)); columns]];
                let text = render(&["HEAD"; 5][..columns], &table, Some(width), false);
                assert!(text.lines().all(|line| line.chars().count() < width), "{width} {columns}:\n{text}");
            }
        }
    }

    #[test]
    fn colours_take_no_room_and_cells_cant_break_out() {
        let table =
            vec![vec![Cell::new("bad", Tone::Bad), Cell::plain("x")], rows(&[&["longer", "a\u{1b}[2Jb"]]).remove(0)];
        assert_eq!(render(&[], &table, Some(80), true), "\u{1b}[1;31mbad\u{1b}[0m     x\nlonger  a [2Jb\n");
        assert_eq!(render(&[], &table, Some(80), false), "bad     x\nlonger  a [2Jb\n");
        assert_eq!(render(&[], &[], Some(80), true), "");
    }
}
