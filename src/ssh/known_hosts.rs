//! Known hosts, in the file format of `sshd(8)`: names, patterns, hashed names, ports, `@revoked`. Owns reading,
//! checking and recording; never asks the user. libssh2's own parser supports neither markers nor patterns, and doesn't
//! report line numbers.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::{PORT, pattern};

/// All known hosts.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<KnownKey>,
}

/// One line: a key of some hosts.
#[derive(Debug)]
struct KnownKey {
    at: At,
    revoked: bool,
    hosts: Hosts,
    kind: String,
    key: Vec<u8>,
}

#[derive(Debug)]
enum Hosts {
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
    Patterns(Vec<String>),
}

/// The position of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

/// The result of checking a host's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key is known.
    Known,
    /// The host isn't known.
    Unknown,
    /// The host had this other key.
    Changed(At, Vec<u8>),
    /// The key is marked as revoked.
    Revoked(At),
}

impl Known {
    /// Read `files`. A missing file is empty.
    ///
    /// # Errors
    /// A file that can't be read.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut known = Self::default();
        for file in files {
            match fs::read(file) {
                Ok(text) => known.add(file, &String::from_utf8_lossy(&text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        Ok(known)
    }

    /// Add the hosts in `text`, the content of `file`. Lines that can't be understood are skipped.
    pub fn add(&mut self, file: &Path, text: &str) {
        let entry = |(index, line): (usize, &str)| parse(line, &At { file: file.into(), line: index + 1 });
        self.entries.extend(text.lines().enumerate().filter_map(entry));
    }

    /// The types of the keys that are known for a host. They must be requested, since another key of the same host
    /// would look like a change.
    #[must_use]
    pub fn kinds(&self, host: &str, port: u16) -> Vec<&str> {
        let names = names(host, port);
        let of = |entry: &&KnownKey| !entry.revoked && names.iter().any(|name| entry.hosts.are(name));
        self.entries.iter().filter(of).map(|entry| entry.kind.as_str()).collect()
    }

    /// Check a host's `key`, which is in wire format.
    #[must_use]
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        let names = names(host, port);
        let of = |entry: &&KnownKey| names.iter().any(|name| entry.hosts.are(name));
        if let Some(revoked) = self.entries.iter().filter(of).find(|entry| entry.revoked && entry.key == key) {
            return Verdict::Revoked(revoked.at.clone());
        }
        // Entries with this port decide. An entry without a port confirms a key if there are no others, but doesn't
        // make other keys on other ports a change: those may be other hosts.
        let named = |name: &str| -> Vec<&KnownKey> {
            self.entries.iter().filter(|entry| !entry.revoked && entry.hosts.are(name)).collect()
        };
        let exact = named(&name(host, port));
        let vouching = if exact.is_empty() { named(host) } else { exact.clone() };
        match exact.first() {
            _ if vouching.iter().any(|entry| entry.key == key) => Verdict::Known,
            Some(other) => Verdict::Changed(other.at.clone(), other.key.clone()),
            None => Verdict::Unknown,
        }
    }
}

impl Hosts {
    fn are(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => pattern::any(patterns.iter().map(String::as_str), name),
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.to_ascii_lowercase()).verify_slice(hash).is_ok()),
        }
    }
}

/// The names under which a host may be known: with its port, and without a port.
fn names(host: &str, port: u16) -> Vec<String> {
    if port == PORT { vec![host.into()] } else { vec![name(host, port), host.into()] }
}

/// The name under which a host is recorded.
pub(super) fn name(host: &str, port: u16) -> String {
    if port == PORT { host.into() } else { format!("[{host}]:{port}") }
}

fn parse(line: &str, at: &At) -> Option<KnownKey> {
    // Other white space is part of a word, as in OpenSSH.
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    // Certificate authorities aren't supported, since libssh2 uses plain keys only. Unknown markers are skipped.
    if marker.is_some_and(|marker| marker != "@revoked") {
        return None;
    }
    let (hosts, kind, key) = (words.next()?, words.next()?, words.next()?);
    let hosts = match hosts.strip_prefix("|1|") {
        Some(hashed) => {
            let (salt, hash) = hashed.split_once('|')?;
            Hosts::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? }
        }
        None => Hosts::Patterns(hosts.split(',').map(str::to_owned).collect()),
    };
    let key = STANDARD.decode(key).ok()?;
    Some(KnownKey { at: at.clone(), revoked: marker.is_some(), hosts, kind: kind.into(), key })
}

/// The type of a key, which is the first string in it.
pub(super) fn kind(key: &[u8]) -> &str {
    let (length, rest) = key.split_at_checked(4).unwrap_or_default();
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.get(..length).and_then(|kind| str::from_utf8(kind).ok()).unwrap_or("unknown")
}

/// Append a host to `file`, which is created for its owner only if it doesn't exist.
pub(super) fn record(file: &Path, host: &str, port: u16, key: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let cut = fs::read(file).is_ok_and(|text| text.last().is_some_and(|byte| *byte != b'\n'));
    let line = format!("{}{} {} {}\n", if cut { "\n" } else { "" }, name(host, port), kind(key), STANDARD.encode(key));
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of `kind`, different for each `seed`.
    fn key(kind: &str, seed: u8) -> Vec<u8> {
        [&u32::try_from(kind.len()).unwrap().to_be_bytes()[..], kind.as_bytes(), &[seed; 32]].concat()
    }

    fn line(hosts: &str, key: &[u8]) -> String {
        format!("{hosts} {} {} comment\n", kind(key), STANDARD.encode(key))
    }

    fn known(text: &str) -> Known {
        let mut known = Known::default();
        known.add(Path::new("/k"), text);
        known
    }

    fn at(line: usize) -> At {
        At { file: "/k".into(), line }
    }

    #[test]
    fn hosts_are_found_by_name_pattern_and_port() {
        let (a, b) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        let known = known(&format!(
            "# comment\n\n{}{}{}garbage\n",
            line("n1,10.88.0.11", &a),
            line("[n2]:2222", &b),
            line("*.lab,!x.lab", &a)
        ));
        assert_eq!(known.check("n1", 22, &a), Verdict::Known);
        assert_eq!(known.check("10.88.0.11", 22, &b), Verdict::Changed(at(3), a.clone()));
        assert_eq!(known.check("n2", 2222, &b), Verdict::Known);
        assert_eq!(known.check("n2", 22, &b), Verdict::Unknown);
        assert_eq!(known.check("n2", 2222, &a), Verdict::Changed(at(4), b.clone()));
        assert_eq!((known.check("y.lab", 22, &a), known.check("x.lab", 22, &a)), (Verdict::Known, Verdict::Unknown));
        // As in OpenSSH: a name without a port applies to every port, but only to confirm a key.
        assert_eq!((known.check("n1", 2222, &a), known.check("n1", 2222, &b)), (Verdict::Known, Verdict::Unknown));
        let strange =
            self::known(&format!("\u{a0}{}{}\u{b}\n", line("n4", &a), line("n5", &a).replace(" comment\n", "")));
        assert_eq!((strange.check("n4", 22, &a), strange.check("n5", 22, &a)), (Verdict::Unknown, Verdict::Unknown));
        let known = self::known(&format!("{}{}", line("n3", &a), line("[n3]:2222", &b)));
        assert_eq!(known.check("n3", 2222, &a), Verdict::Changed(at(2), b.clone()));
    }

    #[test]
    fn revoked_keys_are_refused_and_authorities_are_left_alone() {
        let (a, b) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        let text = format!("@cert-authority {}@revoked {}{}", line("*", &b), line("*", &a), line("n1", &a));
        assert_eq!(known(&text).check("n1", 22, &a), Verdict::Revoked(at(2)));
        assert_eq!(known(&text).check("n2", 22, &b), Verdict::Unknown);
    }

    #[test]
    fn several_kinds_of_key_are_all_known() {
        let (ed, rsa) = (key("ssh-ed25519", 1), key("ssh-rsa", 2));
        let known = known(&format!("{}{}", line("n1", &ed), line("n1", &rsa)));
        assert_eq!(known.kinds("n1", 22), ["ssh-ed25519", "ssh-rsa"]);
        assert_eq!((known.check("n1", 22, &ed), known.check("n1", 22, &rsa)), (Verdict::Known, Verdict::Known));
        assert_eq!(known.check("n1", 22, &key("ecdsa-sha2-nistp256", 3)), Verdict::Changed(at(1), ed));
    }

    #[test]
    fn what_was_recorded_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/known_hosts");
        let (a, b) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        record(&file, "n1", 22, &a).unwrap();
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"# no newline").unwrap();
        record(&file, "n2", 2222, &b).unwrap();
        let known = Known::read(&[file.clone(), folder.path().join("missing")]).unwrap();
        assert_eq!((known.check("n1", 22, &a), known.check("n2", 2222, &b)), (Verdict::Known, Verdict::Known));
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap()) & 0o777, 0o600);
    }
}
