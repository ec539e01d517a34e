//! The user's terminal: raw for a shell on another host, without echo for a secret, and always restored. Owns
//! `/dev/tty`, the questions asked there, and the terminal's size.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::ssh::{Answer, Ask, Pty};

/// The default size: columns and rows.
const SIZE: (u16, u16) = (80, 24);

/// The user at the terminal, for SSH's questions.
#[derive(Debug)]
pub(super) struct Person {
    /// Shows lines to the user.
    pub(super) warn: fn(&[String]),
}

/// Sets the terminal at stdin to raw mode until it is dropped.
pub(super) struct Raw(Termios);

/// A terminal without echo until this is dropped.
struct Silent(File);

/// The original state of a terminal without echo: the program may end while another thread is still asking.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Raw {
    /// Set raw mode.
    pub(super) fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

impl Silent {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        // Characters are read one by one, including Ctrl-C: it must not end the program while the echo is off.
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        before_now().get_or_insert(before);
        let this = Self(terminal);
        // The echo is off before the prompt, so that an early answer isn't shown either.
        tcsetattr(&this.0, OptionalActions::Flush, &silent)?;
        Ok(this)
    }

    fn ask(mut self, prompt: &str) -> Answer {
        let secret = self.0.write_all(prompt.as_bytes()).ok().and_then(|()| typed(&self.0));
        drop(self.0.write_all(b"\n"));
        secret.map_or(Answer::GivenUp, Answer::Said)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = before_now().take() {
            let _ = tcsetattr(&self.0, OptionalActions::Drain, &before);
        }
    }
}

fn before_now() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restore a terminal without echo before the program ends.
pub fn restore() {
    if let Some(before) = before_now().take()
        && let Some(terminal) = Person::terminal()
    {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

/// The terminal at stdin, to be requested on another host; `None` if stdin isn't a terminal.
pub(super) fn pty() -> Option<Pty> {
    let term = std::env::var_os("TERM").and_then(|term| term.into_string().ok()).filter(|term| !term.is_empty());
    io::stdin().is_terminal().then(|| Pty { term: term.unwrap_or_else(|| "dumb".into()), size: size() })
}

/// The terminal's columns and rows.
pub(super) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => SIZE,
    }
}

impl Person {
    fn terminal() -> Option<File> {
        File::options().read(true).write(true).open("/dev/tty").ok()
    }
}

impl Ask for Person {
    fn secret(&self, prompt: &str) -> Answer {
        let silent = Self::terminal().and_then(|terminal| Silent::new(terminal).ok());
        silent.map_or(Answer::Nobody, |terminal| terminal.ask(prompt))
    }

    fn confirm(&self, question: &str) -> Option<bool> {
        let mut terminal = Self::terminal()?;
        terminal.write_all(question.as_bytes()).ok()?;
        loop {
            let answer = line(&terminal)?;
            match answer.trim().to_ascii_lowercase().as_str() {
                "yes" | "y" => return Some(true),
                "no" | "n" => return Some(false),
                _ => terminal.write_all(b"Please type 'yes' or 'no': ").ok()?,
            }
        }
    }

    fn warn(&self, lines: &[String]) {
        (self.warn)(lines);
    }
}

fn line(mut from: &File) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        match from.read(&mut byte) {
            Ok(0) | Err(_) => return None,
            Ok(_) if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) => line.push(byte[0]),
        }
    }
}

/// Read a secret, character by character; `None` after Ctrl-C or Ctrl-D.
fn typed(mut from: &File) -> Option<String> {
    let (mut secret, mut byte) = (Vec::new(), [0]);
    loop {
        if !matches!(from.read(&mut byte), Ok(1)) {
            return None;
        }
        match byte[0] {
            b'\r' | b'\n' => return String::from_utf8(secret).ok(),
            3 | 4 => return None,
            8 | 127 => drop(secret.pop()),
            21 => secret.clear(),
            letter => secret.push(letter),
        }
    }
}
