//! What goes to and fro: between the channels of one session and the sockets that stand for them, on the session's own
//! thread. The session doesn't block here; the thread waits in one `poll` for its connection, its sockets and its bell.
//! Only opening a channel waits, as long as the session's timeout at most.

mod lane;

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::session::{Ended, Pty};
use lane::Lane;

/// After so long without a word the other side is asked for one.
const QUIET: u32 = 10;

/// After so long it is taken for dead.
const SILENCE: Duration = Duration::from_secs(35);

/// libssh2's number for "not now".
const LATER: ssh2::ErrorCode = ssh2::ErrorCode::Session(-37);

/// What the thread is asked for.
pub(super) enum Ask {
    Open(What, oneshot::Sender<Result<Opened, String>>),
    Resize(u64, (u16, u16)),
    Close(u64),
    /// End when the last channel has.
    Leave,
}

/// What to open.
pub(super) enum What {
    Run { line: Option<String>, pty: Option<Pty>, ended: oneshot::Sender<Result<Ended, String>> },
    Unix(String),
    Tcp(String, u16),
}

/// The near ends of what was opened. They don't block.
pub(super) struct Opened {
    pub(super) stream: UnixStream,
    pub(super) stderr: Option<UnixStream>,
    pub(super) id: u64,
}

/// Serve until nobody wants anything any more, or the connection breaks.
pub(super) fn run(session: &ssh2::Session, fd: &OwnedFd, asked: &Receiver<Ask>, bell: &UnixStream) {
    session.set_blocking(false);
    session.set_keepalive(true, QUIET);
    let mut pump =
        Pump { session, lanes: Vec::new(), waiting: Vec::new(), leave: false, next: 0, heard: Instant::now() };
    if let Err(why) = pump.serve(fd, asked, bell) {
        tracing::debug!(%why, "SSH session broke");
        for lane in &mut pump.lanes {
            lane.broke(&why);
        }
    }
}

struct Pump<'a> {
    session: &'a ssh2::Session,
    lanes: Vec<Lane>,
    /// To be opened once nothing that was begun has yet to be sent: libssh2 would wait for that for ever.
    waiting: Vec<(What, oneshot::Sender<Result<Opened, String>>)>,
    leave: bool,
    next: u64,
    heard: Instant,
}

impl Pump<'_> {
    fn serve(&mut self, fd: &OwnedFd, asked: &Receiver<Ask>, bell: &UnixStream) -> Result<(), String> {
        loop {
            // Once round, then orders again: what pours in without end mustn't keep anybody from closing it.
            self.take(asked);
            let (mut moved, mut full) = (false, false);
            for lane in &mut self.lanes {
                moved |= lane.pass()?;
                full |= lane.is_stuck(self.session);
            }
            self.lanes.retain(|lane| !lane.is_over());
            if !full && !self.waiting.is_empty() {
                let (what, reply) = self.waiting.remove(0);
                self.open(what, reply)?;
                continue;
            }
            if self.leave && self.waiting.is_empty() && self.lanes.iter().all(Lane::is_closing) {
                drop(self.session.disconnect(None, "bye", None));
                return Ok(());
            }
            // One channel's reading takes in what came for the others too: no `poll` would tell of that any more.
            if moved || self.lanes.iter().any(Lane::has_news) {
                self.heard = Instant::now();
                continue;
            }
            self.wait(fd, bell, full)?;
        }
    }

    fn take(&mut self, asked: &Receiver<Ask>) {
        loop {
            match asked.try_recv() {
                Ok(Ask::Open(what, reply)) => self.waiting.push((what, reply)),
                Ok(Ask::Resize(id, size)) => self.lane(id, |lane| lane.resize(size)),
                Ok(Ask::Close(id)) => self.lane(id, Lane::close),
                Ok(Ask::Leave) | Err(TryRecvError::Disconnected) => {
                    self.leave = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
    }

    fn lane(&mut self, id: u64, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            change(lane);
        }
    }

    /// An error ends the session: after a channel that took too long libssh2 would take the next one for that one.
    fn open(&mut self, what: What, reply: oneshot::Sender<Result<Opened, String>>) -> Result<(), String> {
        self.session.set_blocking(true);
        let id = self.next;
        self.next += 1;
        let opened = Lane::open(self.session, id, what);
        self.session.set_blocking(false);
        self.heard = Instant::now();
        match opened {
            Ok((lane, opened)) => {
                self.lanes.push(lane);
                drop(reply.send(Ok(opened)));
                Ok(())
            }
            Err(error) => {
                let timeout = error.code() == super::connect::TIMEOUT;
                let why = if timeout { "it doesn't answer any more".to_owned() } else { error.message().to_owned() };
                drop(reply.send(Err(why.clone())));
                // What a host refuses it may be asked again in other words.
                if matches!(error.code(), ssh2::ErrorCode::Session(-21 | -22)) { Ok(()) } else { Err(why) }
            }
        }
    }

    fn wait(&mut self, fd: &OwnedFd, bell: &UnixStream, full: bool) -> Result<(), String> {
        // What nobody takes in mustn't wake us either: output that piles up, or answers while no channel is open.
        let listens = self.lanes.iter().any(Lane::listens);
        let mut limit = Duration::from_secs(u64::from(QUIET));
        if listens {
            match self.session.keepalive_send() {
                Ok(seconds) => limit = limit.min(Duration::from_secs(seconds.max(1).into())),
                Err(error) if error.code() == LATER => limit = Duration::from_secs(1),
                Err(error) => return Err(error.message().to_owned()),
            }
        } else {
            self.heard = Instant::now();
        }
        let mut connection = PollFlags::empty();
        connection.set(PollFlags::IN, listens);
        connection.set(PollFlags::OUT, full);
        let mut fds = vec![PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)];
        fds.extend((!connection.is_empty()).then(|| PollFd::new(fd, connection)));
        let known = fds.len();
        fds.extend(self.lanes.iter().flat_map(Lane::waits_for));
        let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(1), tv_nsec: 0 };
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        let rung = !fds[0].revents().is_empty();
        let heard = fds[1..known].iter().any(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::HUP));
        drop(fds);
        if heard {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > SILENCE {
            return Err(format!("nothing was heard for {} s", SILENCE.as_secs()));
        }
        if rung {
            let mut bytes = [0; 64];
            while matches!((&*bell).read(&mut bytes), Ok(read) if read > 0) {}
        }
        Ok(())
    }
}

/// Whether it only isn't possible now.
fn later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
