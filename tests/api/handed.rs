//! Sockets that a service manager hands over: the real `fleetd`, started as systemd starts it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::port::Port;

/// Opens sockets, hands them on as descriptors 3 and up, and becomes `fleetd`: what `systemd.socket(5)` describes.
const HAND_OVER: &str = r"
import fcntl, os, socket, sys
program, config, names, *addresses = sys.argv[1:]
aside = []
for address in addresses:
    if address.startswith('/'):
        handed = socket.socket(socket.AF_UNIX)
        handed.bind(address)
    else:
        handed = socket.socket()
        handed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = address.rsplit(':', 1)
        handed.bind((host, int(port)))
    handed.listen()
    # Out of the way of those that they are to be.
    aside.append(fcntl.fcntl(handed, fcntl.F_DUPFD, 100))
for number, descriptor in enumerate(aside):
    os.dup2(descriptor, 3 + number)
    os.close(descriptor)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(addresses)))
if names:
    os.environ.update(LISTEN_FDNAMES=names)
os.execv(program, [program, '--standalone', '--config', config])
";

struct Fleetd(Child);

impl Fleetd {
    /// How it ended, and what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.0.wait().unwrap();
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Fleetd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `fleetd` that was handed these sockets. It finds no systemd, so it never registers, and touches nothing of this
/// machine. `names` is what `FileDescriptorName=` says of each, if anything.
fn fleetd(dir: &Path, names: &str, addresses: &[&str]) -> Fleetd {
    let config = dir.join("fleet.conf");
    let shown = dir.display();
    std::fs::write(
        &config,
        format!(
            "state_directory={shown}/state\nunits_directory={shown}/units\nsystemd_user=true\n\
             listen=unix://{shown}/own.sock\n"
        ),
    )
    .unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", HAND_OVER, env!("CARGO_BIN_EXE_fleetd"), config.to_str().unwrap(), names]).args(addresses);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={shown}/no-bus"));
    Fleetd(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

/// What `stream` answers to `GET /fleet/v1/units`.
fn ask(mut stream: impl std::io::Read + std::io::Write) -> String {
    stream.write_all(b"GET /fleet/v1/units HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Connect as soon as somebody listens.
fn connect<T>(mut connect: impl FnMut() -> std::io::Result<T>) -> T {
    let began = Instant::now();
    loop {
        match connect() {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn handed_sockets_are_used_instead_of_those_configured() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, port) = (dir.path().join("handed.sock"), Port::reserve());
    let address = port.address();
    let _fleetd = fleetd(dir.path(), "", &[socket.to_str().unwrap(), &address.to_string()]);
    let unix = ask(connect(|| UnixStream::connect(&socket)));
    let tcp = ask(connect(|| TcpStream::connect(address)));
    for answer in [unix, tcp] {
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("units that run go on running"), "{answer}");
    }
    assert!(!dir.path().join("own.sock").exists());
}

/// Whoever hands it over has asked for it, but it asks nobody who they are.
#[test]
fn a_handed_socket_that_is_open_to_the_network_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let (status, said) = fleetd(dir.path(), "", &[&format!("0.0.0.0:{}", port.number)]).end();
    assert!(!status.success() && said.contains("plain TCP is for loopback addresses only"), "{status}: {said}");
}

/// A socket with another name has the role of its kind.
#[test]
fn a_handed_socket_has_the_role_in_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let port = Port::reserve();
    let tcp = port.address().to_string();
    let mut fleetd = fleetd(
        dir.path(),
        "api:role=operator&name=web@*:api:fleetd.socket",
        &[&format!("{shown}/a.sock"), &format!("{shown}/b.sock"), &tcp, &format!("{shown}/c.sock")],
    );
    let roles = [
        format!("{shown}/a.sock (admin)"),
        format!("{shown}/b.sock (operator of web@*)"),
        format!("{tcp} (reader)"),
        format!("{shown}/c.sock (admin)"),
    ];
    let log = BufReader::new(fleetd.0.stderr.take().unwrap());
    let mut left: Vec<String> = roles.iter().map(|role| format!("the API listens on {role}")).collect();
    for line in log.lines().map(Result::unwrap) {
        left.retain(|wanted| !line.contains(wanted));
        if left.is_empty() {
            return;
        }
    }
    panic!("the log ends without {left:?}");
}

/// A mistake must not give the role of an admin away.
#[test]
fn a_handed_socket_whose_name_is_no_role_is_refused() {
    for (names, what) in [
        ("reader", "`FileDescriptorName=` must be `api`, or the role of the socket's clients"),
        ("role=redaer", "`redaer` is no role; these are announcer, reader, operator and admin"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("handed.sock");
        let (status, said) = fleetd(dir.path(), names, &[socket.to_str().unwrap()]).end();
        assert!(!status.success() && said.contains(what), "{status}: {said}");
    }
}
