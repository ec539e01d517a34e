//! Requests to a session and their results. Values only.

use std::os::unix::net::UnixStream;

use tokio::sync::oneshot;

/// A terminal for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// The terminal type, as in `TERM`.
    pub term: String,
    /// Columns and rows.
    pub size: (u16, u16),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Status(i32),
    /// It was killed by this signal, such as `TERM`.
    Signal(String),
}

/// A request to the thread of a session.
pub(super) enum Request {
    /// Open a channel.
    Open(ChannelKind, oneshot::Sender<Result<Opened, String>>),
    /// The size of a channel's terminal has changed: columns and rows.
    Resize(u64, (u16, u16)),
    /// Close a channel.
    Close(u64),
    /// End when the last channel has ended.
    Leave,
}

/// The kind of channel to open.
pub(super) enum ChannelKind {
    /// A command, or a login shell without a line.
    Run { line: Option<String>, pty: Option<Pty>, ended: oneshot::Sender<Result<Ended, String>> },
    /// A connection to a socket on the host.
    Unix(String),
    /// A connection to a host and port, from the host's point of view.
    Tcp(String, u16),
}

/// The local ends of an open channel, in non-blocking mode.
pub(super) struct Opened {
    pub(super) stream: UnixStream,
    pub(super) stderr: Option<UnixStream>,
    pub(super) id: u64,
}
