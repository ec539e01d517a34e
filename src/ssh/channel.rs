//! A channel and its sockets. Owns the data in transit in both directions, and the channel's end: output is delivered
//! before the exit status, and the channel is closed before it is dropped.

use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use ssh2::{BlockDirections, Session};
use tokio::sync::oneshot;

use super::codes::WOULD_BLOCK;
use super::request::{ChannelKind, Ended, Opened};

/// The size of one read, in bytes.
const CHUNK: usize = 32 * 1024;

pub(super) struct Channel {
    pub(super) id: u64,
    channel: ssh2::Channel,
    near: UnixStream,
    output: Output,
    errors: Option<(UnixStream, Output)>,
    input: Vec<u8>,
    input_over: bool,
    eof_sent: bool,
    eof_seen: bool,
    size: Option<(u16, u16)>,
    /// Receives the exit status of a command.
    ended: Option<oneshot::Sender<Result<Ended, String>>>,
    /// A forwarded connection, which is closed when either side has ended.
    connection: bool,
    phase: Phase,
    /// The last operation would have blocked.
    stuck: bool,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Over,
}

/// Data that was received and isn't delivered yet.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// The receiver is gone.
    unwanted: bool,
}

impl Channel {
    /// Open a channel. The session is in blocking mode meanwhile.
    pub(super) fn open(session: &Session, id: u64, what: ChannelKind) -> Result<(Self, Opened), ssh2::Error> {
        let pair = || {
            let (near, far) = UnixStream::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((near, far))
        };
        let local = |_| ssh2::Error::new(ssh2::ErrorCode::Session(-1), "no more sockets");
        let (near, stream) = pair().map_err(local)?;
        let (errors, stderr) = match what {
            ChannelKind::Run { .. } => {
                pair().map(|(near, far)| (Some((near, Output::default())), Some(far))).map_err(local)?
            }
            ChannelKind::Unix(_) | ChannelKind::Tcp(..) => (None, None),
        };
        let connection = errors.is_none();
        let (channel, ended) = match what {
            ChannelKind::Unix(path) => (session.channel_direct_streamlocal(&path, None)?, None),
            ChannelKind::Tcp(host, port) => (session.channel_direct_tcpip(&host, port, None)?, None),
            ChannelKind::Run { line, pty, ended } => {
                let mut channel = session.channel_session()?;
                if let Some(pty) = pty {
                    let (columns, rows) = (pty.size.0.into(), pty.size.1.into());
                    channel.request_pty(&pty.term, None, Some((columns, rows, 0, 0)))?;
                }
                match line {
                    Some(line) => channel.exec(&line)?,
                    None => channel.shell()?,
                }
                (channel, Some(ended))
            }
        };
        let this = Self {
            id,
            channel,
            near,
            output: Output::default(),
            errors,
            input: Vec::new(),
            input_over: false,
            eof_sent: false,
            eof_seen: false,
            size: None,
            ended,
            connection,
            phase: Phase::Open,
            stuck: false,
        };
        Ok((this, Opened { stream, stderr, id }))
    }

    /// Transfer as much as possible; returns whether there was anything.
    pub(super) fn pass(&mut self) -> Result<bool, String> {
        self.stuck = false;
        match self.phase {
            Phase::Over => return Ok(false),
            Phase::Closing => {
                let closed = self.channel.close();
                if !self.waits(&closed) {
                    self.phase = Phase::Over;
                }
                return Ok(false);
            }
            Phase::Open => {}
        }
        if let Some((columns, rows)) = self.size {
            let resized = self.channel.request_pty_size(columns.into(), rows.into(), None, None);
            if !self.waits(&resized) {
                self.size = None;
            }
        }
        let mut moved = self.send();
        moved |= receive(&mut self.channel, &mut self.near, &mut self.output)?;
        if let Some((near, output)) = &mut self.errors {
            moved |= receive(&mut self.channel.stderr(), near, output)?;
        }
        self.settle()?;
        Ok(moved)
    }

    fn send(&mut self) -> bool {
        let mut moved = false;
        if self.input.is_empty() && !self.input_over {
            let mut chunk = vec![0; CHUNK];
            match self.near.read(&mut chunk) {
                Ok(0) => self.input_over = true,
                Ok(read) => {
                    chunk.truncate(read);
                    self.input = chunk;
                }
                Err(error) if would_block(&error) => {}
                Err(_) => self.input_over = true,
            }
        }
        if !self.input.is_empty() {
            match self.channel.write(&self.input) {
                Ok(written) => {
                    self.input.drain(..written);
                    moved = written > 0;
                }
                Err(error) if would_block(&error) => self.stuck = true,
                // The other side doesn't read any more.
                Err(_) => {
                    self.input.clear();
                    self.input_over = true;
                    self.eof_sent = true;
                }
            }
        }
        if self.input.is_empty() && self.input_over && !self.eof_sent && !self.connection {
            let sent = self.channel.send_eof();
            self.eof_sent = !self.waits(&sent);
        }
        moved
    }

    fn settle(&mut self) -> Result<(), String> {
        let errors_over = self.errors.as_ref().is_none_or(|(_, output)| output.bytes.is_empty());
        if self.connection && self.input_over && self.input.is_empty() {
            self.phase = Phase::Closing;
            return Ok(());
        }
        if !(self.channel.eof() && self.output.bytes.is_empty() && errors_over) {
            return Ok(());
        }
        self.eof_seen = true;
        drop(self.near.shutdown(Shutdown::Write));
        if let Some((errors, _)) = &self.errors {
            drop(errors.shutdown(Shutdown::Write));
        }
        if self.connection {
            self.phase = Phase::Closing;
            return Ok(());
        }
        // The status follows the end of the output, and precedes the close of the channel.
        let closed = self.channel.wait_close();
        if self.waits(&closed) {
            return Ok(());
        }
        let signal = self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let ended = match signal {
            Some(signal) => Ended::Signal(signal),
            None => Ended::Status(self.channel.exit_status().map_err(|error| error.message().to_owned())?),
        };
        if let Some(receiver) = self.ended.take() {
            drop(receiver.send(Ok(ended)));
        }
        self.phase = Phase::Closing;
        Ok(())
    }

    fn waits(&mut self, result: &Result<(), ssh2::Error>) -> bool {
        let waits = matches!(result, Err(error) if error.code() == WOULD_BLOCK);
        self.stuck |= waits;
        waits
    }

    /// The sockets to poll.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = PollFd<'_>> {
        let open = self.phase == Phase::Open;
        let reads = self.input.is_empty() && !self.input_over;
        let mut near = PollFlags::empty();
        near.set(PollFlags::IN, open && reads);
        near.set(PollFlags::OUT, open && self.output.is_waiting());
        let near = (!near.is_empty()).then(|| PollFd::new(&self.near, near));
        let errors = self.errors.as_ref().filter(|(_, output)| open && output.is_waiting());
        near.into_iter().chain(errors.map(|(stream, _)| PollFd::new(stream, PollFlags::OUT)))
    }

    /// Whether the channel can accept data from the connection now.
    pub(super) fn listens(&self) -> bool {
        self.phase == Phase::Closing
            || self.output.bytes.is_empty()
            || self.errors.as_ref().is_some_and(|(_, output)| output.bytes.is_empty())
    }

    /// Whether the channel has data that libssh2 received and that it could deliver.
    pub(super) fn has_news(&self) -> bool {
        let free = !self.output.is_waiting() && !self.errors.as_ref().is_some_and(|(_, output)| output.is_waiting());
        let unseen = || self.channel.read_window().available > 0 || (self.channel.eof() && !self.eof_seen);
        self.phase == Phase::Open && free && unseen()
    }

    /// Whether a message is half sent, so that no other can be sent.
    pub(super) fn is_stuck(&self, session: &Session) -> bool {
        self.stuck && matches!(session.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
    }

    pub(super) fn resize(&mut self, size: (u16, u16)) {
        self.size = Some(size);
    }

    /// Close the channel, since its user is gone.
    pub(super) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn broke(&mut self, why: &str) {
        if let Some(ended) = self.ended.take() {
            drop(ended.send(Err(why.into())));
        }
    }
}

impl Output {
    fn is_waiting(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// Transfer from the channel to the socket.
fn receive(from: &mut impl Read, to: &mut UnixStream, output: &mut Output) -> Result<bool, String> {
    let mut moved = false;
    if output.bytes.is_empty() {
        let mut chunk = vec![0; CHUNK];
        match from.read(&mut chunk) {
            Ok(read) => {
                moved = read > 0;
                chunk.truncate(read);
                output.bytes = chunk;
            }
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    while !output.bytes.is_empty() {
        if output.unwanted {
            output.bytes.clear();
            break;
        }
        match to.write(&output.bytes) {
            // Counts as progress: data that libssh2 has already received doesn't wake `poll`, so the caller must read
            // again.
            Ok(written) => {
                output.bytes.drain(..written);
                moved |= written > 0;
            }
            Err(error) if would_block(&error) => break,
            Err(_) => output.unwanted = true,
        }
    }
    Ok(moved)
}

/// Whether the operation would only have blocked.
fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
