//! Copies bytes between two connections. Owns what an idle connection costs (only the sockets), how ends and failures
//! are passed on, and how soon a vanished peer is detected. Never ends a connection whose peer acknowledges anything,
//! however long the peer accepts no data.
//!
//! All connections of a process share one buffer: what was read is written immediately, without waiting in between.
//! Only what the other side doesn't accept is kept, at most one buffer for each direction, and nothing more is read
//! until it was written.

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

/// The size of one read in bytes: large enough for efficient bulk transfers, small enough for ten thousand slow
/// readers.
const BUFFER: usize = 32 * 1024;

/// A silent peer is given up after `idle` and three probes `between` each other; or, after data was sent, when
/// [`MAX_UNANSWERED`] attempts were made and nothing was acknowledged for `unheard`.
#[derive(Debug, Clone, Copy)]
struct Keepalive {
    idle: Duration,
    between: Duration,
    unheard: Duration,
}

/// While it is announced.
const ANNOUNCED: Keepalive =
    Keepalive { idle: Duration::from_secs(10), between: Duration::from_secs(3), unheard: Duration::from_secs(10) };

/// When it isn't announced any more: it may be finishing its work after a stop, or its host may be dead.
const GONE: Keepalive =
    Keepalive { idle: Duration::from_secs(1), between: Duration::from_secs(1), unheard: Duration::from_secs(3) };

/// For clients, which may be far away: their work can't be taken over by another backend, but they occupy a connection.
const CLIENT: Keepalive =
    Keepalive { idle: Duration::from_secs(60), between: Duration::from_secs(10), unheard: Duration::from_secs(60) };

/// How many attempts must fail before a peer is given up: one packet may be lost. This matters for the kernel's probes
/// of a closed window, which become less frequent, up to two minutes apart.
const MAX_UNANSWERED: u8 = 3;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Enable keep-alive probes for an idle client: its host may have lost power.
pub(super) fn keep_alive(client: &TcpStream) {
    let _ = set_keepalive(client, CLIENT);
}

/// Forward until both sides have ended, or one has failed. `gone` is cancelled when the server isn't announced any
/// more.
///
/// # Errors
/// The failure of either side. Both are reset then, so that neither sees a regular end.
pub(super) async fn forward(
    client: &mut TcpStream,
    server: &mut TcpStream,
    gone: &CancellationToken,
) -> io::Result<()> {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = set_keepalive(server, ANNOUNCED);
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
    let (mut hastened, mut keepalive) = (false, ANNOUNCED);
    let mut round = Round { at: pin!(sleep(Duration::ZERO)), is_due: false };
    poll_fn(|cx| {
        if !hastened && gone.as_mut().poll(cx).is_ready() {
            (hastened, keepalive) = (true, GONE);
            let _ = set_keepalive(from_server.as_ref(), keepalive);
            round.is_due = false;
        }
        let ready =
            (there.poll(cx, &mut from_client, &mut to_server)?, back.poll(cx, &mut from_server, &mut to_client)?);
        if ready.0.is_ready() && ready.1.is_ready() {
            return Poll::Ready(Ok(()));
        }
        while (there.sent.is_some() || back.sent.is_some()) && round.poll(cx, keepalive.unheard / 4).is_ready() {
            there.look_after(from_server.as_ref(), keepalive)?;
            back.look_after(from_client.as_ref(), CLIENT)?;
        }
        Poll::Pending
    })
    .await
}

/// Schedules the checks of what was sent. Costs nothing while nothing is sent, and little while much is.
struct Round<'a> {
    at: Pin<&'a mut Sleep>,
    is_due: bool,
}

impl Round<'_> {
    /// Ready once in every `period`.
    fn poll(&mut self, cx: &mut Context<'_>, period: Duration) -> Poll<()> {
        if !std::mem::replace(&mut self.is_due, true) {
            self.at.as_mut().reset(Instant::now() + period);
        }
        ready!(self.at.as_mut().poll(cx));
        self.is_due = false;
        Poll::Ready(())
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pump {
    /// Data that was read and not yet accepted by the other side.
    left: Vec<u8>,
    state: PumpState,
    /// When data was sent that may not be acknowledged yet.
    sent: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum PumpState {
    #[default]
    Open,
    /// The reader has reached the end; the rest of the data is to be passed on, and then the end.
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
            // Frees the memory: the connection may stay open for days.
            self.left = Vec::new();
            match self.state {
                PumpState::Done => return Poll::Ready(Ok(())),
                PumpState::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = PumpState::Done;
                }
                PumpState::Open => ready!(self.pass(cx, from, to))?,
            }
        }
    }

    /// Read once, and write what was read.
    fn pass(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        SHARED.with_borrow_mut(|shared| {
            let mut read = ReadBuf::new(shared);
            ready!(Pin::new(from).poll_read(cx, &mut read))?;
            let read = read.filled();
            if read.is_empty() {
                self.state = PumpState::Ending;
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

    /// Fails if the peer is considered dead.
    fn look_after(&mut self, to: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
        let Some(sent) = self.sent else { return Ok(()) };
        let heard = to.local_addr().and_then(|local| tcp_ack::about(local, to.peer_addr()?));
        match heard {
            Ok(heard) if !heard.outstanding => self.sent = None,
            // It may have been silent long before, with nothing to acknowledge.
            Ok(heard) if heard.silent.min(sent.elapsed()) >= keepalive.unheard && heard.tries >= MAX_UNANSWERED => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is acknowledged any more"));
            }
            Ok(_) => {}
            // Both sides have closed it, or this kernel doesn't support the query; the kernel will give up by itself,
            // later.
            Err(_) => self.sent = None,
        }
        Ok(())
    }
}

fn set_keepalive(stream: &TcpStream, keepalive: Keepalive) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, keepalive.idle)?;
    sockopt::set_tcp_keepintvl(stream, keepalive.between)?;
    sockopt::set_tcp_keepcnt(stream, 3)
}
