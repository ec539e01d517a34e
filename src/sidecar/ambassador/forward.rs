//! Bytes from one connection to another and back. Owns what a connection costs while it is idle (nothing but the sockets), how ends and
//! failures are passed on, and how soon a peer that has vanished is noticed.
//!
//! All connections of a process share one buffer: what has been read is written at once, without waiting in between. Only what the
//! other side doesn't take is kept, at most one buffer for each direction, and nothing more is read until it is gone.

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
use tokio_util::sync::CancellationToken;

/// What one read may bring: large enough that bulk is cheap, small enough that ten thousand slow readers can be afforded.
const BUFFER: usize = 32 * 1024;

/// A peer without a sign of life is given up: after `idle`, and three questions `between` each other; or when what was sent isn't
/// acknowledged within `unheard`.
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

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
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
    let mut hastened = false;
    poll_fn(|cx| {
        if !hastened && gone.as_mut().poll(cx).is_ready() {
            hastened = true;
            let _ = be_patient(from_server.as_ref(), GONE);
        }
        let there = there.poll(cx, &mut from_client, &mut to_server)?;
        let back = back.poll(cx, &mut from_server, &mut to_client)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct Pump {
    /// Read, and not taken by the other side.
    left: Vec<u8>,
    state: State,
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
            Poll::Ready(Ok(()))
        })
    }
}

fn be_patient(stream: &TcpStream, patience: Patience) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, patience.idle)?;
    sockopt::set_tcp_keepintvl(stream, patience.between)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(patience.unheard.as_millis()).unwrap_or(u32::MAX))
}
