//! Moves data between the channels of a session and their sockets, on the session's thread. The session is in
//! non-blocking mode: the thread waits in a single `poll` for its connection, its sockets and its waker. Only opening a
//! channel blocks, for at most the session's timeout.

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::channel::Channel;
use super::codes::{REFUSED, TIMEOUT, WOULD_BLOCK};
use super::request::{ChannelKind, Opened, Request};

/// The interval of keep-alive requests while the other side sends nothing, in seconds.
const KEEPALIVE_INTERVAL: u32 = 10;

/// How long the other side may be silent before it is considered dead.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(35);

/// Serve until all channels are closed and the session is dropped, or the connection breaks.
pub(super) fn run(session: &ssh2::Session, fd: &OwnedFd, requests: &Receiver<Request>, waker: &UnixStream) {
    session.set_blocking(false);
    session.set_keepalive(true, KEEPALIVE_INTERVAL);
    let mut multiplexer = Multiplexer {
        session,
        channels: Vec::new(),
        waiting: Vec::new(),
        leave: false,
        next: 0,
        heard: Instant::now(),
    };
    if let Err(why) = multiplexer.serve(fd, requests, waker) {
        tracing::debug!(%why, "SSH session broke");
        for channel in &mut multiplexer.channels {
            channel.broke(&why);
        }
    }
}

struct Multiplexer<'a> {
    session: &'a ssh2::Session,
    channels: Vec<Channel>,
    /// Channels to open once no message is half sent: libssh2 would wait for that forever.
    waiting: Vec<(ChannelKind, oneshot::Sender<Result<Opened, String>>)>,
    leave: bool,
    next: u64,
    heard: Instant,
}

impl Multiplexer<'_> {
    fn serve(&mut self, fd: &OwnedFd, requests: &Receiver<Request>, waker: &UnixStream) -> Result<(), String> {
        loop {
            // Serve each channel once, then the requests: endless output must not prevent a close.
            self.take(requests);
            let (mut moved, mut full) = (false, false);
            for channel in &mut self.channels {
                moved |= channel.pass()?;
                full |= channel.is_stuck(self.session);
            }
            self.channels.retain(|channel| !channel.is_over());
            if !full && !self.waiting.is_empty() {
                let (what, reply) = self.waiting.remove(0);
                self.open(what, reply)?;
                continue;
            }
            if self.leave && self.waiting.is_empty() && self.channels.iter().all(Channel::is_closing) {
                drop(self.session.disconnect(None, "bye", None));
                return Ok(());
            }
            // Reading one channel also receives the data of others, which `poll` doesn't report then.
            if moved || self.channels.iter().any(Channel::has_news) {
                self.heard = Instant::now();
                continue;
            }
            self.wait(fd, waker, full)?;
        }
    }

    fn take(&mut self, requests: &Receiver<Request>) {
        loop {
            match requests.try_recv() {
                Ok(Request::Open(what, reply)) => self.waiting.push((what, reply)),
                Ok(Request::Resize(id, size)) => self.channel(id, |channel| channel.resize(size)),
                Ok(Request::Close(id)) => self.channel(id, Channel::close),
                Ok(Request::Leave) | Err(TryRecvError::Disconnected) => {
                    self.leave = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
    }

    fn channel(&mut self, id: u64, change: impl FnOnce(&mut Channel)) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.id == id) {
            change(channel);
        }
    }

    /// An error ends the session: after a timeout libssh2 would confuse the next channel with this one.
    fn open(&mut self, what: ChannelKind, reply: oneshot::Sender<Result<Opened, String>>) -> Result<(), String> {
        self.session.set_blocking(true);
        let id = self.next;
        self.next += 1;
        let opened = Channel::open(self.session, id, what);
        self.session.set_blocking(false);
        self.heard = Instant::now();
        match opened {
            Ok((channel, opened)) => {
                self.channels.push(channel);
                drop(reply.send(Ok(opened)));
                Ok(())
            }
            Err(error) => {
                let timeout = error.code() == TIMEOUT;
                let why = if timeout { "it doesn't answer any more".to_owned() } else { error.message().to_owned() };
                drop(reply.send(Err(why.clone())));
                // A host that refuses one kind of channel may open another.
                if REFUSED.contains(&error.code()) { Ok(()) } else { Err(why) }
            }
        }
    }

    fn wait(&mut self, fd: &OwnedFd, waker: &UnixStream, full: bool) -> Result<(), String> {
        // Data that no channel accepts must not wake this thread: output that piles up, or answers while no channel is
        // open.
        let listens = self.channels.iter().any(Channel::listens);
        let mut limit = Duration::from_secs(u64::from(KEEPALIVE_INTERVAL));
        if listens {
            match self.session.keepalive_send() {
                Ok(seconds) => limit = limit.min(Duration::from_secs(seconds.max(1).into())),
                Err(error) if error.code() == WOULD_BLOCK => limit = Duration::from_secs(1),
                Err(error) => return Err(error.message().to_owned()),
            }
        } else {
            self.heard = Instant::now();
        }
        let mut connection = PollFlags::empty();
        connection.set(PollFlags::IN, listens);
        connection.set(PollFlags::OUT, full);
        let mut fds = vec![PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN)];
        fds.extend((!connection.is_empty()).then(|| PollFd::new(fd, connection)));
        let known = fds.len();
        fds.extend(self.channels.iter().flat_map(Channel::waits_for));
        let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(1), tv_nsec: 0 };
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        let woken = !fds[0].revents().is_empty();
        let heard = fds[1..known].iter().any(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP));
        drop(fds);
        if heard {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > KEEPALIVE_TIMEOUT {
            return Err(format!("nothing was received for {} s", KEEPALIVE_TIMEOUT.as_secs()));
        }
        if woken {
            let mut bytes = [0; 64];
            while matches!((&*waker).read(&mut bytes), Ok(read) if read > 0) {}
        }
        Ok(())
    }
}
