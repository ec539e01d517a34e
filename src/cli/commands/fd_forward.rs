//! `fleetctl fd-forward SOCKET`: connects stdin and stdout with a Unix socket. The client runs it on a host whose sshd
//! doesn't forward sockets itself.

use std::path::PathBuf;

use crate::cli::error::{Error, Exit};
use crate::cli::output::Printer;
use crate::remote;

/// Run the command.
pub(in crate::cli) async fn run(out: &Printer, sockets: &[PathBuf]) -> Result<Exit, Error> {
    let [socket] = sockets else {
        return Err(Error::usage("Provide a single argument", "`fleetctl fd-forward /run/fleet.sock`"));
    };
    remote::forward(socket, out)
        .await
        .map_err(|error| Error::failure(format!("can't forward to {}: {error}", socket.display())))?;
    Ok(Exit::Ok)
}
