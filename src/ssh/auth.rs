//! Logging in: which keys are tried, in which order, and the error if none is accepted. First the keys given on the
//! command line or in the configuration, then the agent's, then the default files. Blocks; runs on the session's
//! thread.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::codes::TIMEOUT;
use super::{Answer, Error, Ssh, Target, known_hosts};

/// OpenSSH's default names, in its order.
const USUAL: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

/// How often the user may try a passphrase.
const ATTEMPTS: usize = 3;

/// libssh2's errors for a key that can't be used: the file isn't a key, or the passphrase is wrong.
const UNUSABLE: [ssh2::ErrorCode; 3] =
    [ssh2::ErrorCode::Session(-16), ssh2::ErrorCode::Session(-12), ssh2::ErrorCode::Session(-5)];

/// The result of trying a key.
enum Tried {
    In,
    /// The file isn't a key, or the passphrase is wrong.
    Unusable,
    /// Not accepted, with the reason.
    Not(String),
}

impl Tried {
    /// Why the key was of no use; `None` if it was accepted.
    fn refusal(&self) -> Option<&str> {
        match self {
            Self::In => None,
            Self::Unusable => Some("it can't be read, or the passphrase is wrong"),
            Self::Not(why) => Some(why),
        }
    }
}

/// Why no other key can be tried.
enum Broken {
    /// The host closed the connection.
    Closed,
    /// The host no longer answers.
    Silent,
    /// The user didn't want to type the passphrase of this file.
    Declined(PathBuf),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(
                "the host closed the connection, perhaps after too many keys (`--ssh-identity FILE` selects one)",
            ),
            Self::Silent => f.write_str("it doesn't answer any more"),
            Self::Declined(file) => write!(f, "no passphrase was given for {}", file.display()),
        }
    }
}

/// The default key files.
pub(super) fn usual(home: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    USUAL.into_iter().map(|name| home.join(".ssh").join(name))
}

/// Log in on `session`.
pub(super) fn log_in(ssh: &Ssh, session: &ssh2::Session, target: &Target) -> Result<(), Error> {
    let refused = |why: &str| Error::new(format!("can't log in on {} as {}: {why}", target.label(), target.user));
    let methods = match session.auth_methods(&target.user) {
        // The host requires no authentication.
        _ if session.authenticated() => return Ok(()),
        Ok(methods) => methods.to_owned(),
        Err(error) => return Err(refused(error.message())),
    };
    if !methods.split(',').any(|method| method == "publickey") {
        return Err(refused(&format!("it doesn't accept keys, only {methods}")));
    }
    let mut attempt = Attempt { ssh, session, target, agent: None, tried: Vec::new() };
    attempt.open_agent();
    if attempt.run()? {
        return Ok(());
    }
    Err(attempt.failure())
}

struct Attempt<'a> {
    ssh: &'a Ssh,
    session: &'a ssh2::Session,
    target: &'a Target,
    agent: Option<(ssh2::Agent, Vec<ssh2::PublicKey>)>,
    /// The keys that were tried, with the result.
    tried: Vec<String>,
}

impl Attempt<'_> {
    fn open_agent(&mut self) {
        let Some(path) = &self.target.agent else { return };
        let open = || {
            let mut agent = self.session.agent()?;
            agent.set_identity_path(path)?;
            agent.connect()?;
            agent.list_identities()?;
            let keys = agent.identities()?;
            Ok::<_, ssh2::Error>((agent, keys))
        };
        match open() {
            Ok((_, keys)) if keys.is_empty() => {
                self.tried.push(format!("agent at {}: it holds no key", path.display()))
            }
            Ok(agent) => self.agent = Some(agent),
            Err(_) => self.tried.push(format!("agent at {}: it doesn't answer", path.display())),
        }
    }

    fn run(&mut self) -> Result<bool, Error> {
        let only = self.target.identities_only;
        let named = !self.target.identities.is_empty();
        // `IdentitiesOnly` without `IdentityFile` means the default files (`ssh_config(5)`), and the agent's copies of
        // them.
        let files: Vec<PathBuf> =
            if only && !named { usual(&self.ssh.settings.home).collect() } else { self.target.identities.clone() };
        for file in &files {
            // If the agent has this key, its passphrase isn't needed.
            if let Some(public) = public_half(file)
                && self.agent_key(|key| key.blob() == public)?
            {
                return Ok(true);
            }
            if self.file(file, named)? {
                return Ok(true);
            }
        }
        if only {
            return Ok(false);
        }
        let named: Vec<Vec<u8>> = self.target.identities.iter().filter_map(|file| public_half(file)).collect();
        if self.agent_key(|key| !named.iter().any(|public| public == key.blob()))? {
            return Ok(true);
        }
        for file in usual(&self.ssh.settings.home) {
            let covered = self.agent.as_ref().is_some_and(|(_, keys)| {
                public_half(&file).is_some_and(|public| keys.iter().any(|key| key.blob() == public))
            });
            if !covered && !self.target.identities.contains(&file) && self.file(&file, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Try the agent's keys for which `wanted` is true.
    fn agent_key(&mut self, wanted: impl Fn(&ssh2::PublicKey) -> bool) -> Result<bool, Error> {
        let Some((agent, keys)) = &self.agent else { return Ok(false) };
        let mut refused = Vec::new();
        for key in keys.iter().filter(|key| wanted(key)) {
            let tried = outcome(agent.userauth(&self.target.user, key)).map_err(|why| self.broken(&why))?;
            let Some(why) = tried.refusal() else { return Ok(true) };
            refused.push(format!("agent key {}: {why}", key.comment()));
        }
        self.tried.extend(refused);
        Ok(false)
    }

    fn file(&mut self, file: &Path, named: bool) -> Result<bool, Error> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !named => return Ok(false),
            Err(error) => {
                self.tried.push(format!("{}: {error}", file.display()));
                return Ok(false);
            }
        };
        if public_key(&text).is_some() {
            self.tried.push(format!("{}: it is a public key, and no agent has its private half", file.display()));
            return Ok(false);
        }
        let tried = if is_encrypted(&text) { self.encrypted(file)? } else { self.try_file(file, None)? };
        if let Some(why) = tried.refusal() {
            self.tried.push(format!("{}: {why}", file.display()));
            return Ok(false);
        }
        Ok(true)
    }

    fn encrypted(&self, file: &Path) -> Result<Tried, Error> {
        let answered = || self.ssh.passphrases.lock().ok().and_then(|all| all.get(file).cloned());
        let keep = |answer| self.ssh.passphrases.lock().map(|mut all| all.insert(file.into(), answer));
        if let Some(answer) = answered() {
            return self.with_answer(file, answer);
        }
        let turn = self.ssh.turn();
        // Another session may have asked for the same passphrase meanwhile.
        if let Some(answer) = answered() {
            drop(turn);
            return self.with_answer(file, answer);
        }
        for _ in 0..ATTEMPTS {
            let answer = self.ssh.ask.secret(&format!("Enter passphrase for key '{}': ", file.display()));
            match self.with_answer(file, answer.clone()) {
                Ok(Tried::Unusable) => {}
                tried => {
                    drop(keep(answer));
                    return tried;
                }
            }
        }
        Ok(Tried::Unusable)
    }

    fn with_answer(&self, file: &Path, answer: Answer) -> Result<Tried, Error> {
        match answer {
            Answer::Said(passphrase) => self.try_file(file, Some(&passphrase)),
            // A user who declines isn't asked for the next passphrase.
            Answer::GivenUp => Err(self.broken(&Broken::Declined(file.to_owned()))),
            Answer::Nobody => Ok(Tried::Not(
                "it is encrypted, and there is no terminal to ask for its passphrase; put it into an agent (`ssh-add`)"
                    .into(),
            )),
        }
    }

    fn try_file(&self, file: &Path, passphrase: Option<&str>) -> Result<Tried, Error> {
        outcome(self.session.userauth_pubkey_file(&self.target.user, None, file, passphrase))
            .map_err(|why| self.broken(&why))
    }

    fn broken(&self, why: &Broken) -> Error {
        let Target { user, .. } = self.target;
        let mut lines = vec![format!("can't log in on {} as {user}: {why}", self.target.label())];
        lines.extend(self.tried.iter().map(|tried| format!("  {tried}")));
        Error { refused: matches!(why, Broken::Closed), ..Error::all(lines) }
    }

    fn failure(&self) -> Error {
        let Target { user, .. } = self.target;
        let label = self.target.label();
        if self.tried.is_empty() {
            let files = USUAL.map(|name| format!("~/.ssh/{name}")).join(", ");
            let agent = if self.target.agent.is_none() {
                "SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is running."
            } else {
                "the agent holds none of the configured keys"
            };
            return Error {
                lines: vec![
                    format!("can't log in on {label} as {user}: there is no key to log in with"),
                    agent.into(),
                    format!("none of {files} exists"),
                ],
                hint: Some("select a key with `--ssh-identity FILE`, or add one to the agent with `ssh-add`".into()),
                broken: false,
                refused: false,
            };
        }
        let mut lines = vec![format!("can't log in on {label} as {user}: none of the keys was accepted")];
        lines.extend(self.tried.iter().map(|tried| format!("  {tried}")));
        let hint =
            format!("is {user} the right user (`--ssh-username`), with one of these keys in its authorized_keys?");
        Error { lines, hint: Some(hint), broken: false, refused: true }
    }
}

fn outcome(result: Result<(), ssh2::Error>) -> Result<Tried, Broken> {
    match result {
        Ok(()) => Ok(Tried::In),
        Err(error) if error.code() == TIMEOUT => Err(Broken::Silent),
        Err(error) if UNUSABLE.contains(&error.code()) => Ok(Tried::Unusable),
        // Refused, or the agent didn't sign.
        Err(error) => match error.code() {
            ssh2::ErrorCode::Session(-18 | -19) => Ok(Tried::Not("not accepted".into())),
            ssh2::ErrorCode::Session(-7 | -13 | -43) => Err(Broken::Closed),
            _ => Ok(Tried::Not(error.message().to_owned())),
        },
    }
}

/// The public half of a key file, in wire format, from the file beside it, or from the file itself if the agent has the
/// private half.
fn public_half(file: &Path) -> Option<Vec<u8>> {
    let beside = PathBuf::from(format!("{}.pub", file.display()));
    [beside.as_path(), file].into_iter().find_map(|file| public_key(&fs::read_to_string(file).ok()?))
}

/// A public key in the format of `ssh-keygen`: type, key, comment.
fn public_key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let kind = words.next()?;
    let key = STANDARD.decode(words.next()?).ok()?;
    (known_hosts::kind(&key) == kind).then_some(key)
}

/// Whether a private key needs a passphrase.
fn is_encrypted(text: &str) -> bool {
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return true;
    }
    let Some((_, body)) = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----") else { return false };
    let body: String = body.split("-----").next().unwrap_or_default().split_ascii_whitespace().collect();
    // `openssh-key-v1`, a NUL, then the cipher's name as a string.
    let plain = b"openssh-key-v1\0\0\0\0\x04none";
    STANDARD.decode(body).is_ok_and(|bytes| !bytes.starts_with(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_keys_are_seen_as_such() {
        let folder = tempfile::tempdir().unwrap();
        for (name, passphrase, format) in
            [("a", "", "RFC4716"), ("b", "secret", "RFC4716"), ("c", "", "PEM"), ("d", "secret", "PEM")]
        {
            let file = folder.path().join(name);
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ecdsa", "-m", format, "-N", passphrase, "-f"])
                .arg(&file)
                .status()
                .unwrap();
            assert!(made.success());
            assert_eq!(is_encrypted(&fs::read_to_string(&file).unwrap()), !passphrase.is_empty(), "{name}");
            assert!(public_half(&file).is_some());
        }
        assert!(!is_encrypted("no key"));
        let public = folder.path().join("a.pub");
        assert_eq!(public_half(&public), public_half(&folder.path().join("a")));
        assert_eq!((public_key("ssh-rsa AAAA"), public_key("-----BEGIN PRIVATE KEY-----")), (None, None));
    }
}
