//! What a session is asked for, and what comes of it. Values only.

use std::os::unix::net::UnixStream;

use tokio::sync::oneshot;

/// A terminal for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// What kind, as in `TERM`.
    pub term: String,
    /// Columns and rows.
    pub size: (u16, u16),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Status(i32),
    /// By this signal, `TERM` say.
    Signal(String),
}

/// A request to the thread of a session.
pub(super) enum Request {
    /// Open a channel.
    Open(ChannelKind, oneshot::Sender<Result<Opened, String>>),
    /// The terminal of a channel has another size now: columns and rows.
    Resize(u64, (u16, u16)),
    /// Close a channel.
    Close(u64),
    /// End when the last channel has ended.
    Leave,
}

/// A channel to open.
pub(super) enum ChannelKind {
    /// A command, or without a line a login shell.
    Run { line: Option<String>, pty: Option<Pty>, ended: oneshot::Sender<Result<Ended, String>> },
    /// A connection to a socket on the host.
    Unix(String),
    /// A connection to a host and port, as the host reaches them.
    Tcp(String, u16),
}

/// The near ends of an open channel. They don't block.
pub(super) struct Opened {
    pub(super) stream: UnixStream,
    pub(super) stderr: Option<UnixStream>,
    pub(super) id: u64,
}
