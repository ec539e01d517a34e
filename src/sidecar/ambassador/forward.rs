//! Bytes from one connection to another and back. Owns what a connection costs while it is idle (nothing but the
//! sockets), how ends and failures are passed on, and how soon a peer that has vanished is noticed. Never ends a
//! connection whose peer acknowledges anything, however long it takes nothing in.
//!
//! All connections of a process share one buffer: what has been read is written at once, without waiting in between.
//! Only what the other side doesn't take is kept, at most one buffer for each direction, and nothing more is read until
//! it is gone.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::tcp_ack;

/// What one read may bring: large enough that bulk is cheap, small enough that ten thousand slow readers can be
/// afforded.
const BUFFER: usize = 32 * 1024;

/// A peer without a sign of life is given up: after `idle`, and three questions `between` each other; or when something
/// was sent, and [`MAX_UNANSWERED`] and for `unheard` nothing at all is acknowledged.
#[derive(Debug, Clone, Copy)]
struct Patience {
    idle: Duration,
    between: Duration,
    unheard: Duration,
}

/// As long as it is announced.
const ANNOUNCED: Patience =
    Patience { idle: Duration::from_secs(10), between: Duration::from_secs(3), unheard: Duration::from_secs(10) };

/// When it isn't announced any more: it may have been stopped, and go on with what it has begun, or its host is dead.
const GONE: Patience =
    Patience { idle: Duration::from_secs(1), between: Duration::from_secs(1), unheard: Duration::from_secs(3) };

/// Towards clients, which may be far away: nobody else takes over what they do, but they hold a place.
const CLIENT: Patience =
    Patience { idle: Duration::from_secs(60), between: Duration::from_secs(10), unheard: Duration::from_secs(60) };

/// How often something must be sent in vain before its peer is given up: one packet may be lost. It counts where the
/// kernel asks a closed window for room, which it does more and more seldom, up to two minutes apart.
const MAX_UNANSWERED: u8 = 3;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Ask a client that says nothing, from time to time, whether it is still there: its host may have lost its power.
pub(super) fn mind(client: &TcpStream) {
    let _ = be_patient(client, CLIENT);
}

/// Forward until both sides have ended, or one has failed; `gone` says that the server isn't announced any more.
///
/// # Errors
/// What went wrong with either side; both are reset then, so that neither takes it for a regular end.
pub(super) async fn forward(
    client: &mut TcpStream,
    server: &mut TcpStream,
    gone: &CancellationToken,
) -> io::Result<()> {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = be_patient(server, ANNOUNCED);
    let done = copy(client, server, gone).await;
    if done.is_err() {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
    done
}

async fn copy(client: &mut TcpStream, server: &mut TcpStream, gone: &CancellationToken) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut there, mut back) = (Pump::default(), Pump::default());
    let mut gone = pin!(gone.cancelled());
    let (mut hastened, mut patience) = (false, ANNOUNCED);
    let mut round = Round { at: pin!(sleep(Duration::ZERO)), is_due: false };
    poll_fn(|cx| {
        if !hastened && gone.as_mut().poll(cx).is_ready() {
            (hastened, patience) = (true, GONE);
            let _ = be_patient(from_server.as_ref(), patience);
            round.is_due = false;
        }
        let ready =
            (there.poll(cx, &mut from_client, &mut to_server)?, back.poll(cx, &mut from_server, &mut to_client)?);
        if ready.0.is_ready() && ready.1.is_ready() {
            return Poll::Ready(Ok(()));
        }
        while (there.sent.is_some() || back.sent.is_some()) && round.poll(cx, patience.unheard / 4).is_ready() {
            there.look_after(from_server.as_ref(), patience)?;
            back.look_after(from_client.as_ref(), CLIENT)?;
        }
        Poll::Pending
    })
    .await
}

/// When to look after what was sent. Costs nothing while nothing is sent, and little more while much is.
struct Round<'a> {
    at: Pin<&'a mut Sleep>,
    is_due: bool,
}

impl Round<'_> {
    /// Ready once in each `period`.
    fn poll(&mut self, cx: &mut Context<'_>, period: Duration) -> Poll<()> {
        if !std::mem::replace(&mut self.is_due, true) {
            self.at.as_mut().reset(Instant::now() + period);
        }
        ready!(self.at.as_mut().poll(cx));
        self.is_due = false;
        Poll::Ready(())
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Pump {
    /// Read, and not taken by the other side.
    left: Vec<u8>,
    state: State,
    /// When something was sent that may not be acknowledged yet.
    sent: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    Open,
    /// The reader has said its last word; what is left of it is to be passed on, and then the end.
    Ending,
    Done,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.left.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.left))?;
                self.left.drain(..written);
                self.note();
            }
            // Back to nothing: this may stay open for days.
            self.left = Vec::new();
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Done;
                }
                State::Open => ready!(self.pass(cx, from, to))?,
            }
        }
    }

    /// Read once, and write what came.
    fn pass(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        SHARED.with_borrow_mut(|shared| {
            let mut read = ReadBuf::new(shared);
            ready!(Pin::new(from).poll_read(cx, &mut read))?;
            let read = read.filled();
            if read.is_empty() {
                self.state = State::Ending;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(to).poll_write(cx, read) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.left = read[written..].to_vec();
            self.note();
            Poll::Ready(Ok(()))
        })
    }

    fn note(&mut self) {
        if self.sent.is_none() {
            self.sent = Some(Instant::now());
        }
    }

    /// Whether whoever this was written to is still there.
    fn look_after(&mut self, to: &TcpStream, patience: Patience) -> io::Result<()> {
        let Some(sent) = self.sent else { return Ok(()) };
        let heard = to.local_addr().and_then(|local| tcp_ack::about(local, to.peer_addr()?));
        match heard {
            Ok(heard) if !heard.outstanding => self.sent = None,
            // It may have had nothing to acknowledge for long before.
            Ok(heard) if heard.silent.min(sent.elapsed()) >= patience.unheard && heard.tries >= MAX_UNANSWERED => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is acknowledged any more"));
            }
            Ok(_) => {}
            // Both sides have ended it in good order, or this kernel doesn't tell: it gives up too, if late.
            Err(_) => self.sent = None,
        }
        Ok(())
    }
}

fn be_patient(stream: &TcpStream, patience: Patience) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, patience.idle)?;
    sockopt::set_tcp_keepintvl(stream, patience.between)?;
    sockopt::set_tcp_keepcnt(stream, 3)
}
