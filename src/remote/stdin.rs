//! This process's stdin, to be read beside other things. A thread reads it and is left behind: reading can't be called
//! off, and tokio's own stdin would keep the program from ending until somebody types one more line.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::thread;

use tokio::net::UnixStream;

/// Begin to read.
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
