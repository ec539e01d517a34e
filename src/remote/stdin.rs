//! This process's stdin as an asynchronous stream. A thread reads it and is left behind on exit: a blocking read can't
//! be cancelled, and tokio's own stdin would keep the program from ending until another line is typed.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::thread;

use tokio::net::UnixStream;

/// Start reading.
pub(super) fn open() -> io::Result<UnixStream> {
    let (near, mut far) = StdStream::pair()?;
    near.set_nonblocking(true)?;
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut bytes = [0; 32 * 1024];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(read) if far.write_all(&bytes[..read]).is_ok() => {}
                Ok(_) => break,
            }
        }
    })?;
    UnixStream::from_std(near)
}
