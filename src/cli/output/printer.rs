//! The only place that prints. stdout is for data, stderr for messages; progress is shown on a terminal only. Owns
//! terminal detection, and what happens when a pipe closes. Never words a message.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::cli::error::Line;
use crate::journal;
use crate::model::text::without_os_error;
use crate::remote::Streams;

/// The default size: columns and rows.
const SIZE: (usize, usize) = (80, 24);

/// The output streams of the process.
#[derive(Debug)]
pub(in crate::cli) struct Printer {
    /// Whether stderr is a terminal.
    watched: bool,
    /// Whether its lines can be rewritten.
    terminal: bool,
    /// Whether terminals support no control sequences.
    dumb: bool,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of progress lines on the screen.
    drawn: usize,
    /// The picture on the screen.
    picture: Option<Picture>,
    /// Why writing to stdout failed.
    broken: Option<io::ErrorKind>,
    message: String,
}

/// Text on stdout's terminal that is rewritten in place.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    text: String,
    /// The size of the terminal when it was drawn.
    size: (usize, usize),
}

impl Printer {
    /// A printer for the process's streams.
    pub(in crate::cli) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let watched = io::stderr().is_terminal();
        Self { watched, terminal: watched && !dumb, dumb, state: RefCell::default() }
    }

    /// Whether stderr is a terminal.
    pub(in crate::cli) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether [`Printer::progress`] shows anything.
    pub(in crate::cli) fn shows_progress(&self) -> bool {
        self.terminal
    }

    /// Whether stdout is a terminal: then it is for people, and otherwise for programs.
    pub(in crate::cli) fn is_seen(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether [`Printer::picture`] can rewrite what is on stdout.
    pub(in crate::cli) fn is_live(&self) -> bool {
        self.is_seen() && !self.dumb
    }

    /// The rows of the terminal that stdout is.
    pub(in crate::cli) fn height(&self) -> usize {
        size(io::stdout()).1
    }

    /// The columns of the terminal that stdout is.
    pub(in crate::cli) fn width(&self) -> Option<usize> {
        self.is_seen().then(|| size(io::stdout()).0)
    }

    /// Whether the reader of stdout is gone.
    pub(in crate::cli) fn is_closed(&self) -> bool {
        self.state.borrow().broken.is_some()
    }

    /// Print a line of data.
    pub(in crate::cli) fn line(&self, line: &str) {
        self.data(&format!("{}\n", clean(line)));
    }

    /// Print data, byte for byte. Once stdout is closed, for example by `head`, the rest is dropped.
    pub(in crate::cli) fn data(&self, text: &str) {
        self.stdout(text.as_bytes());
    }

    /// Print a JSON document.
    pub(in crate::cli) fn json(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string_pretty(value) {
            self.data(&format!("{text}\n"));
        }
    }

    /// Print a message of one or more lines.
    pub(in crate::cli) fn message(&self, text: &str) {
        self.state.borrow_mut().erase();
        say(&format!("{}\n", clean(text.trim_end())));
    }

    /// Ask a question at the terminal; the default is no. `None` without a terminal.
    pub(in crate::cli) fn confirm(&self, question: &str) -> Option<bool> {
        if !self.watched || !io::stdin().is_terminal() {
            return None;
        }
        self.state.borrow_mut().erase();
        say(&format!("{} [y/N] ", clean(question)));
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).is_ok();
        Some(read && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Print messages; hints on a terminal only.
    pub(in crate::cli) fn messages(&self, lines: impl IntoIterator<Item = impl Into<Line>>) {
        for line in lines {
            match line.into() {
                Line::Hint(_) if !self.watched => {}
                line => self.message(&line.to_string()),
            }
        }
    }

    /// Replace the progress lines on a terminal by `lines`, as many as fit into a third of it, and `total` if there are
    /// several.
    pub(in crate::cli) fn progress(&self, lines: &[String], total: &str) {
        if !self.terminal {
            return;
        }
        let shown = screen(lines, total, size(io::stderr()));
        let mut state = self.state.borrow_mut();
        let mut text = state.take_up();
        state.drawn = shown.len();
        for line in shown {
            text.push_str(&line);
            text.push('\n');
        }
        say(&text);
    }

    /// Replace the previous picture on stdout's terminal by `text`, which must have fewer lines than the terminal has
    /// rows. Lines that are too long are cut. Whatever else is printed removes the picture.
    pub(in crate::cli) fn picture(&self, text: &str) {
        let picture = Picture { text: text.to_owned(), size: size(io::stdout()) };
        let mut state = self.state.borrow_mut();
        if state.picture.as_ref() != Some(&picture) {
            let away = state.take_down(picture.size);
            state.write(format!("{away}{NO_WRAP}{text}{WRAP}").as_bytes());
            state.picture = Some(picture);
        }
    }

    /// Report an error of stdout, except a closed pipe.
    pub(in crate::cli) fn finish(&self) -> Result<(), String> {
        let mut state = self.state.borrow_mut();
        state.erase();
        match state.broken {
            None | Some(io::ErrorKind::BrokenPipe) => Ok(()),
            Some(_) => Err(format!("can't write to stdout: {}", state.message)),
        }
    }
}

impl Streams for Printer {
    /// Print output of a command on a host unchanged. Returns whether the reader is still there.
    fn stdout(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.borrow_mut();
        state.erase();
        state.write(bytes);
        state.broken.is_none()
    }

    /// Print error output of a command on a host unchanged.
    fn stderr(&self, bytes: &[u8]) {
        self.state.borrow_mut().erase();
        let mut stderr = io::stderr().lock();
        drop(stderr.write_all(bytes).and_then(|()| stderr.flush()));
    }
}

impl journal::Output for Printer {
    fn message(&self, line: &str) {
        Self::message(self, line);
    }

    /// On a terminal, unless `NO_COLOR` is set.
    fn has_colours(&self) -> bool {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        wanted && !self.dumb && io::stdout().is_terminal()
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }

    /// Resolves even if nothing is written: `head` may have exited during a quiet journal. Never resolves for a
    /// terminal, or for files and others that can't be watched.
    async fn closed(&self) {
        let watched = || {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return None;
            }
            // Only polled, so it may be in blocking mode, and may be a pipe or a socket.
            pipe::Sender::from_owned_fd_unchecked(stdout.as_fd().try_clone_to_owned().ok()?).ok()
        };
        match watched() {
            Some(stdout) if stdout.ready(Interest::ERROR).await.is_ok() => {
                self.state.borrow_mut().broken.get_or_insert(io::ErrorKind::BrokenPipe);
            }
            _ => std::future::pending().await,
        }
    }
}

impl State {
    fn take_up(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => up(lines),
        }
    }

    /// What removes the picture from a terminal of this size.
    fn take_down(&mut self, now: (usize, usize)) -> String {
        match self.picture.take() {
            None => String::new(),
            // How the terminal has laid out the old lines after a change of its size isn't known.
            Some(Picture { size, .. }) if size != now => CLEAR.into(),
            Some(Picture { text, .. }) => up(text.lines().count()),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            let mut stdout = io::stdout().lock();
            if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
                self.broken = Some(error.kind());
                self.message = error.to_string();
            }
        }
    }

    fn erase(&mut self) {
        if self.picture.is_some() {
            let away = self.take_down(size(io::stdout()));
            self.write(away.as_bytes());
        }
        let up = self.take_up();
        if !up.is_empty() {
            say(&up);
        }
    }
}

/// Lines that are too long are cut by the terminal, or wrapped.
const NO_WRAP: &str = "\u{1b}[?7l";
const WRAP: &str = "\u{1b}[?7h";
/// Clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Removes the last lines. The terminal may have echoed a Ctrl-C where the cursor is.
fn up(lines: usize) -> String {
    // A count of 0 means 1 to a terminal.
    if lines == 0 { String::new() } else { format!("\r\u{1b}[{lines}A\u{1b}[J") }
}

/// Send the client's log to stderr too.
pub(in crate::cli) fn log_to_stderr() {
    crate::telemetry::init_client();
}

/// Print messages from a thread without a [`Printer`]: SSH's warnings. No progress is shown during the login.
pub(in crate::cli) fn warn(lines: &[String]) {
    say(&format!("{}\n", clean(&lines.join("\n"))));
}

/// A failure to write to stderr can't be reported.
fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

/// Replaces control characters in text from others, and removes the numbers of errors.
fn clean(text: &str) -> String {
    without_os_error(text).chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '?' } else { c }).collect()
}

/// The lines that are shown on a terminal of so many columns and rows.
fn screen(lines: &[String], total: &str, (columns, rows): (usize, usize)) -> Vec<String> {
    let room = (rows / 3).max(2);
    let most = if lines.len() > 1 { room - 1 } else { room };
    let mut shown: Vec<String> = lines.iter().take(most).map(|line| fit(&clean(line), columns)).collect();
    if lines.len() > 1 {
        shown.push(fit(total, columns));
    }
    shown
}

fn fit(line: &str, columns: usize) -> String {
    let line = line.replace(['\n', '\t'], " ");
    if line.chars().count() < columns {
        line
    } else {
        line.chars().take(columns.saturating_sub(2)).chain(['…']).collect()
    }
}

fn size(terminal: impl AsFd) -> (usize, usize) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_are_harmless() {
        assert_eq!((fit("abc", 4), fit("abcd", 4)), ("abc".into(), "ab…".into()));
        assert_eq!(clean("a\u{1b}[2J\tb\r\n"), "a?[2J\tb?\n");
        assert_eq!(clean("can't read x: Permission denied (os error 13)\n"), "can't read x: Permission denied\n");
    }
    #[test]
    fn progress_takes_a_third_of_the_screen_and_a_total() {
        let lines: Vec<String> = (0..220).map(|number| format!("unit {number}")).collect();
        let shown = screen(&lines, "0 of 220 done", (80, 24));
        assert_eq!((shown.len(), shown[6].as_str(), shown[7].as_str()), (8, "unit 6", "0 of 220 done"));
        assert_eq!(screen(&lines[..1], "0 of 1 done", (80, 24)), ["unit 0"]);
        assert_eq!(screen(&lines[..2], "0 of 2 done", (80, 24)), ["unit 0", "unit 1", "0 of 2 done"]);
        assert_eq!(screen(&lines, "0 of 220 done", (8, 1)), ["unit 0", "0 of 2…"]);
    }

    #[test]
    fn progress_is_cleared_from_the_first_column() {
        let mut state = State { drawn: 3, ..State::default() };
        assert_eq!((state.take_up().as_str(), state.take_up().as_str()), ("\r\u{1b}[3A\u{1b}[J", ""));
    }
}
