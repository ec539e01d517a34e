//! A session as the rest of the program sees it: commands and connections, each with its own sockets. The thread behind
//! it ends with the last of these.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::request::{ChannelKind, Ended, Opened, Pty, Request};
use super::{Error, Ssh, Target, auth, connect, multiplexer};

/// Wakes the thread from its `poll` with a byte in a socket.
#[derive(Debug, Clone)]
pub(super) struct Waker(Arc<StdStream>);

impl Waker {
    pub(super) fn wake(&self) {
        // If the socket is full, the thread wakes as well.
        drop(io::Write::write(&mut &*self.0, &[0]));
    }
}

/// A session. After it is dropped, it ends with its last command or connection.
#[derive(Debug)]
pub struct Session {
    requests: mpsc::Sender<Request>,
    waker: Waker,
    label: String,
}

/// A remote command. Dropping it closes its channel, and with it the command's stdin, stdout, stderr and terminal.
#[derive(Debug)]
pub struct Remote {
    /// Its stdin; dropping it closes the stdin.
    pub stdin: Option<OwnedWriteHalf>,
    /// Its stdout; with a terminal also its stderr.
    pub stdout: Option<OwnedReadHalf>,
    /// Its stderr.
    pub stderr: Option<UnixStream>,
    ended: oneshot::Receiver<Result<Ended, String>>,
    id: u64,
    requests: mpsc::Sender<Request>,
    waker: Waker,
}

pub(super) async fn open(ssh: Ssh, target: Target, over: Option<StdStream>) -> Result<Session, Error> {
    let (reply, answer) = oneshot::channel();
    let label = target.label();
    let failed = |error: io::Error| Error::new(format!("can't reach {}: {error}", target.label()));
    let (waker, heard) = StdStream::pair().map_err(failed)?;
    waker.set_nonblocking(true).and_then(|()| heard.set_nonblocking(true)).map_err(failed)?;
    let waker = Waker(Arc::new(waker));
    let (requests, taken) = mpsc::channel();
    let session = Session { requests, waker, label: label.clone() };
    let work = move || match connect::establish(&ssh, &target, over) {
        Ok((session, fd)) => match auth::log_in(&ssh, &session, &target) {
            Ok(()) => {
                if reply.send(Ok(())).is_ok() {
                    multiplexer::run(&session, &fd, &taken, &heard);
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        },
        Err(error) => drop(reply.send(Err(error))),
    };
    thread::Builder::new()
        .name("ssh".into())
        .spawn(work)
        .map_err(|error| Error::new(format!("can't reach {label}: {error}")))?;
    answer.await.map_err(|_| Error::new(format!("can't reach {label}: the session broke")))??;
    Ok(session)
}

impl Session {
    /// Run a line in the user's shell, or without a line the login shell; in a terminal, or with separate streams.
    ///
    /// # Errors
    /// The host refuses, or the connection broke.
    pub async fn run(&self, line: Option<&str>, pty: Option<Pty>) -> Result<Remote, Error> {
        let (ended_at, ended) = oneshot::channel();
        let Opened { stream, stderr, id } =
            self.request(ChannelKind::Run { line: line.map(Into::into), pty, ended: ended_at }).await?;
        let (stdout, stdin) = self.local(stream)?.into_split();
        let stderr = stderr.map(|stderr| self.local(stderr)).transpose()?;
        Ok(Remote {
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr,
            ended,
            id,
            requests: self.requests.clone(),
            waker: self.waker.clone(),
        })
    }

    /// Connect to a socket on the host.
    ///
    /// # Errors
    /// The host refuses, or nothing listens there.
    pub async fn unix(&self, path: &str) -> Result<UnixStream, Error> {
        let opened = self.request(ChannelKind::Unix(path.into())).await?;
        self.local(opened.stream)
    }

    /// Connect to `host` and `port` from the host's point of view, for instance for SSH within SSH.
    ///
    /// # Errors
    /// The host refuses, or nothing listens there.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<StdStream, Error> {
        Ok(self.request(ChannelKind::Tcp(host.into(), port)).await?.stream)
    }

    fn local(&self, stream: StdStream) -> Result<UnixStream, Error> {
        UnixStream::from_std(stream).map_err(|error| Error::new(format!("connection to {}: {error}", self.label)))
    }

    async fn request(&self, what: ChannelKind) -> Result<Opened, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error { broken: true, ..Error::new(format!("the connection to {} broke", self.label)) };
        self.requests.send(Request::Open(what, reply)).map_err(|_| gone())?;
        self.waker.wake();
        answer.await.map_err(|_| gone())?.map_err(|why| Error::new(format!("{}: {why}", self.label)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.requests.send(Request::Leave));
        self.waker.wake();
    }
}

impl Remote {
    /// Wait until it has ended. Its output must be read before or concurrently.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        match (&mut self.ended).await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(why)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
            Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Set the size of its terminal: columns and rows.
    pub fn resize(&self, size: (u16, u16)) {
        drop(self.requests.send(Request::Resize(self.id, size)));
        self.waker.wake();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.requests.send(Request::Close(self.id)));
        self.waker.wake();
    }
}
