//! From an address to a session with a verified host: TCP, the SSH handshake, the host key. Blocks; runs on the
//! session's thread.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ssh2::{HashType, MethodType};

use super::codes::TIMEOUT;
use super::known_hosts::{self, At, Known, Verdict};
use super::{Error, PORT, Ssh, Strict, Target};

/// A session with a verified host, not yet logged in; and its connection, for polling.
pub(super) fn establish(
    ssh: &Ssh,
    target: &Target,
    over: Option<UnixStream>,
) -> Result<(ssh2::Session, OwnedFd), Error> {
    let broken = |error: &dyn std::fmt::Display| Error::new(format!("can't reach {}: {error}", target.label()));
    let known = read_known(target)?;
    let mut session = ssh2::Session::new().map_err(|error| broken(&error.message()))?;
    session.set_timeout(u32::try_from(ssh.settings.timeout.as_millis()).unwrap_or(u32::MAX));
    let fd = match over {
        Some(stream) => {
            let fd = stream.try_clone().map_err(|error| broken(&error))?;
            session.set_tcp_stream(stream);
            fd.into()
        }
        None => {
            let stream = dial(ssh, target)?;
            let fd = stream.try_clone().map_err(|error| broken(&error))?;
            session.set_tcp_stream(stream);
            fd.into()
        }
    };
    prefer_known(&session, &known, target);
    session.handshake().map_err(|error| {
        let label = target.label();
        if error.code() == TIMEOUT {
            let within = ssh.timeout_words();
            return Error::new(format!("{label} accepts the connection, but doesn't answer as sshd {within}"));
        }
        Error::new(format!("can't speak SSH with {label}: {}", error.message()))
            .hint("is it sshd that listens on this port?")
    })?;
    verify(ssh, &session, &known, target)?;
    Ok((session, fd))
}

fn read_known(target: &Target) -> Result<Known, Error> {
    let failed =
        |(file, error): (PathBuf, std::io::Error)| Error::new(format!("can't read {}: {error}", file.display()));
    Known::read(&target.known_hosts).map_err(failed)
}

fn dial(ssh: &Ssh, target: &Target) -> Result<TcpStream, Error> {
    let label = target.label();
    let addresses = (target.address.as_str(), target.port).to_socket_addrs();
    let addresses = addresses.map_err(|error| {
        let why = error.to_string();
        let why = why.strip_prefix("failed to lookup address information: ").unwrap_or(&why).to_owned();
        Error::new(format!("can't find the address of {}: {why}", target.address)).hint("is the name right?")
    })?;
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, ssh.settings.timeout) {
            Ok(stream) => {
                // An interactive shell sends single characters.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Err(error) => failure = Some(error),
        }
    }
    let Some(error) = failure else { return Err(Error::new(format!("{label} has no address"))) };
    Err(match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            Error::new(format!("can't reach {label}: no answer {}", ssh.timeout_words()))
                .hint("is it up, and reachable from here? `--ssh-timeout SECONDS` allows more time")
        }
        ErrorKind::ConnectionRefused => Error::new(format!("can't reach {label}: connection refused"))
            .hint(format!("is sshd running there, on port {}? `--ssh-port` selects another", target.port)),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            let why = if error.kind() == ErrorKind::HostUnreachable {
                "no route to it"
            } else {
                "its network is unreachable"
            };
            Error::new(format!("can't reach {label}: {why}"))
                .hint("is it up, and reachable from here? `--tunnel HOST` goes through a host that is")
        }
        _ => Error::new(format!("can't reach {label}: {error}")),
    })
}

/// Prefer the types of host key that are known: if a host has several keys, another one would look like a change.
fn prefer_known(session: &ssh2::Session, known: &Known, target: &Target) {
    let (host, port) = known_as(target);
    let kinds = known.kinds(host, port);
    let Ok(all) = session.supported_algs(MethodType::HostKey) else { return };
    let is_known = |algorithm: &&str| {
        kinds.iter().any(|kind| kind == algorithm || *kind == "ssh-rsa" && algorithm.starts_with("rsa-sha2-"))
    };
    let (first, rest): (Vec<&str>, Vec<&str>) = all.iter().partition(|algorithm| is_known(algorithm));
    if !first.is_empty() {
        drop(session.method_pref(MethodType::HostKey, &[first, rest].concat().join(",")));
    }
}

/// The name and port under which a host is known. An alias is used without the port: `HostKeyAlias` in `ssh_config(5)`.
fn known_as(target: &Target) -> (&str, u16) {
    match &target.alias {
        Some(alias) => (alias, PORT),
        None => (&target.address, target.port),
    }
}

/// `ED25519 SHA256:…`, as OpenSSH shows keys.
fn fingerprint(key: &[u8], sha256: &[u8]) -> String {
    let kind = known_hosts::kind(key);
    let kind = kind.strip_prefix("ssh-").or_else(|| kind.strip_prefix("ecdsa-sha2-")).unwrap_or(kind);
    format!("{} SHA256:{}", kind.to_uppercase(), STANDARD_NO_PAD.encode(sha256))
}

fn verify(ssh: &Ssh, session: &ssh2::Session, known: &Known, target: &Target) -> Result<(), Error> {
    let label = target.label();
    let (Some((key, _)), Some(hash)) = (session.host_key(), session.host_key_hash(HashType::Sha256)) else {
        return Err(Error::new(format!("{label} presents no host key")));
    };
    let shown = fingerprint(key, hash);
    let Some(file) = target.known_hosts.first() else {
        return Err(Error::new("there is no file of known hosts: UserKnownHostsFile is empty"));
    };
    let file_shown = file.display();
    let (host, port) = known_as(target);
    let remember = || {
        known_hosts::record(file, host, port, key)
            .map_err(|error| Error::new(format!("can't write {file_shown}: {error}; {label} was not connected to")))
    };
    let mut verdict = known.check(host, port, key);
    let mut turn = None;
    if verdict == Verdict::Unknown && target.strict == Strict::Ask {
        turn = Some(ssh.turn());
        // Another session may have asked about the same host meanwhile.
        verdict = read_known(target)?.check(host, port, key);
    }
    let verified = match verdict {
        Verdict::Known => Ok(()),
        Verdict::Revoked(at) => Err(revoked(&label, &shown, &at)),
        Verdict::Changed(at, known_kind) => {
            let lines = changed(target, &at, known_hosts::kind(&known_kind), &shown);
            if target.strict == Strict::No {
                ssh.ask.warn(&lines);
                return Ok(());
            }
            Err(Error::all(lines))
        }
        Verdict::Unknown => match target.strict {
            Strict::No => {
                remember()?;
                ssh.ask.warn(&[format!("{label} is new; its key {shown} is now in {file_shown}")]);
                Ok(())
            }
            Strict::AcceptNew => remember(),
            Strict::Yes => Err(unknown(&label, &shown, file)),
            Strict::Ask => {
                let question = format!(
                    "The authenticity of host '{label}' can't be established.\n{shown}\nIs that its key, and do you \
                     want to go on (yes/no)? "
                );
                match ssh.ask.confirm(&question) {
                    Some(true) => remember(),
                    Some(false) => Err(Error::new(format!("{label} was not trusted; nothing was sent there"))),
                    None => Err(unknown(&label, &shown, file)),
                }
            }
        },
    };
    // Only after the answer was recorded.
    drop(turn);
    verified
}

fn revoked(label: &str, shown: &str, At { file, line }: &At) -> Error {
    Error::all(vec![
        format!("the host key of {label} is revoked: {shown}"),
        format!("{} line {line} says never to trust it; nothing was sent there", file.display()),
    ])
}

fn unknown(label: &str, shown: &str, file: &std::path::Path) -> Error {
    Error::all(vec![
        format!("the host key of {label} isn't known: {shown}"),
        format!(
            "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host, and say yes to it once \
             on a terminal; or add the host to {} (`ssh-keyscan`); or take new hosts for genuine with \
             --strict-host-key-checking=false",
            file.display()
        ),
    ])
}

fn changed(target: &Target, at: &At, known_kind: &str, shown: &str) -> Vec<String> {
    let file = at.file.display();
    let (host, port) = known_as(target);
    vec![
        "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!".into(),
        format!(
            "{} presents a host key that differs from the known one: someone may be intercepting the connection,",
            target.label()
        ),
        "or the host was reinstalled".into(),
        format!("  known:  {known_kind}, {file} line {}", at.line),
        format!("  shown:  {shown}"),
        format!(
            "if you know why it changed, remove the old one: ssh-keygen -f '{file}' -R '{}'",
            known_hosts::name(host, port)
        ),
    ]
}
