//! `fleetctl fd-forward SOCKET`: connects stdin and stdout with a Unix socket, on a host whose sshd doesn't forward
//! sockets itself; and its other end, a stream that reports why that command failed.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Streams, stdin};
use crate::ssh::{Ended, Remote};

/// Connect this process's stdin and `to` with the Unix socket `socket`, until either end closes.
///
/// # Errors
/// The socket can't be opened or read.
pub async fn forward(socket: &Path, to: &impl Streams) -> io::Result<()> {
    let (mut from, mut into) = UnixStream::connect(socket).await?.into_split();
    let mut stdin = stdin::open()?;
    let inwards = tokio::spawn(async move {
        let copied = tokio::io::copy(&mut stdin, &mut into).await;
        drop(into.shutdown().await);
        copied
    });
    let mut bytes = vec![0; 32 * 1024];
    loop {
        match from.read(&mut bytes).await? {
            0 => break,
            read if to.stdout(&bytes[..read]) => {}
            _ => break,
        }
    }
    // The socket is closed, so nothing can be sent any more.
    inwards.abort();
    Ok(())
}

/// The stream of a `fleetctl fd-forward` on a host.
pub(super) struct Forwarded {
    from: Option<OwnedReadHalf>,
    to: Option<OwnedWriteHalf>,
    heard: bool,
    /// Resolves to the reason of the failure if nothing was received.
    why: Pin<Box<dyn Future<Output = io::Error> + Send>>,
}

impl Forwarded {
    /// Use `remote`, a command that was run because sshd `refused` to forward.
    pub(super) fn new(mut remote: Remote, refused: String) -> Self {
        let (from, to, stderr) = (remote.stdout.take(), remote.stdin.take(), remote.stderr.take());
        let why = async move {
            let mut said = String::new();
            if let Some(mut stderr) = stderr {
                drop(stderr.read_to_string(&mut said).await);
            }
            let ended = remote.wait().await;
            let said = said.trim();
            let why = match ended {
                Ok(Ended::Status(127)) => format!("{refused}; and there is no fleetctl there for `fd-forward`"),
                Ok(Ended::Status(0)) if said.is_empty() => return io::ErrorKind::UnexpectedEof.into(),
                _ if said.is_empty() => refused,
                _ => said.into(),
            };
            io::Error::other(why)
        };
        Self { from, to, heard: false, why: Box::pin(why) }
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Some(from) = &mut self.from {
            ready!(Pin::new(from).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            self.heard = true;
        } else if !self.heard {
            return Poll::Ready(Err(ready!(self.why.as_mut().poll(cx))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(to) = &mut self.to else { return Poll::Ready(Ok(bytes.len())) };
        match ready!(Pin::new(to).poll_write(cx, bytes)) {
            // Reading reports why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.as_mut().map_or(Poll::Ready(Ok(())), |to| Pin::new(to).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.as_mut().map_or(Poll::Ready(Ok(())), |to| Pin::new(to).poll_shutdown(cx))
    }
}
