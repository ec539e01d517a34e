//! A session that is logged in, as the rest of the program sees it: commands and connections over it, each with sockets
//! of its own. The thread behind it ends with the last of these.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::pump::{self, Ask, Opened, What};
use super::{Error, Ssh, Target, auth, connect};

/// The thread's bell: whatever it waits for, a byte here wakes it.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<StdStream>);

impl Bell {
    pub(super) fn ring(&self) {
        // A full pipe rings as well.
        drop(io::Write::write(&mut &*self.0, &[0]));
    }
}

/// A session. Dropped, it ends once nothing goes over it any more.
#[derive(Debug)]
pub struct Session {
    orders: mpsc::Sender<Ask>,
    bell: Bell,
    label: String,
}

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

/// A command on the other side. Dropped, its channel is closed, and with it the command's stdin, stdout and stderr, and
/// its terminal if it has one.
#[derive(Debug)]
pub struct Remote {
    /// Its stdin; dropped, the command reads its end.
    pub stdin: Option<OwnedWriteHalf>,
    /// Its stdout, and with a terminal everything.
    pub stdout: Option<OwnedReadHalf>,
    /// Its stderr.
    pub stderr: Option<UnixStream>,
    ended: oneshot::Receiver<Result<Ended, String>>,
    id: u64,
    orders: mpsc::Sender<Ask>,
    bell: Bell,
}

pub(super) async fn open(ssh: Ssh, target: Target, over: Option<StdStream>) -> Result<Session, Error> {
    let (reply, answer) = oneshot::channel();
    let label = target.label();
    let failed = |error: io::Error| Error::new(format!("can't reach {}: {error}", target.label()));
    let (bell, heard) = StdStream::pair().map_err(failed)?;
    bell.set_nonblocking(true).and_then(|()| heard.set_nonblocking(true)).map_err(failed)?;
    let bell = Bell(Arc::new(bell));
    let (orders, taken) = mpsc::channel();
    let session = Session { orders, bell, label: label.clone() };
    let work = move || match connect::establish(&ssh, &target, over) {
        Ok((session, fd)) => match auth::log_in(&ssh, &session, &target) {
            Ok(()) => {
                if reply.send(Ok(())).is_ok() {
                    pump::run(&session, &fd, &taken, &heard);
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
    /// Run a line in the user's shell over there, or with nothing its login shell; in a terminal, or with separate
    /// streams.
    ///
    /// # Errors
    /// The host won't, or the connection broke.
    pub async fn run(&self, line: Option<&str>, pty: Option<Pty>) -> Result<Remote, Error> {
        let (ended_at, ended) = oneshot::channel();
        let Opened { stream, stderr, id } =
            self.order(What::Run { line: line.map(Into::into), pty, ended: ended_at }).await?;
        let (stdout, stdin) = self.local(stream)?.into_split();
        let stderr = stderr.map(|stderr| self.local(stderr)).transpose()?;
        Ok(Remote {
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr,
            ended,
            id,
            orders: self.orders.clone(),
            bell: self.bell.clone(),
        })
    }

    /// A connection to a socket over there.
    ///
    /// # Errors
    /// The host won't, or nobody listens there.
    pub async fn unix(&self, path: &str) -> Result<UnixStream, Error> {
        let opened = self.order(What::Unix(path.into())).await?;
        self.local(opened.stream)
    }

    /// A connection to `host` and `port` as that host reaches them; to go on with, SSH over it say.
    ///
    /// # Errors
    /// The host won't, or nobody listens there.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<StdStream, Error> {
        Ok(self.order(What::Tcp(host.into(), port)).await?.stream)
    }

    fn local(&self, stream: StdStream) -> Result<UnixStream, Error> {
        UnixStream::from_std(stream).map_err(|error| Error::new(format!("connection to {}: {error}", self.label)))
    }

    async fn order(&self, what: What) -> Result<Opened, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error { broken: true, ..Error::new(format!("the connection to {} broke", self.label)) };
        self.orders.send(Ask::Open(what, reply)).map_err(|_| gone())?;
        self.bell.ring();
        answer.await.map_err(|_| gone())?.map_err(|why| Error::new(format!("{}: {why}", self.label)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.orders.send(Ask::Leave));
        self.bell.ring();
    }
}

impl Remote {
    /// Wait until it has ended. Read its output to the end before, or beside.
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

    /// Tell its terminal how large it is now: columns and rows.
    pub fn resize(&self, size: (u16, u16)) {
        drop(self.orders.send(Ask::Resize(self.id, size)));
        self.bell.ring();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.orders.send(Ask::Close(self.id)));
        self.bell.ring();
    }
}
