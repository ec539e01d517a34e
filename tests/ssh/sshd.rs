//! A real sshd on loopback, with keys and a configuration of its own in a temporary directory, for as long as a test
//! needs it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::port::Port;

/// Longer than anything here takes.
const HANG: Duration = Duration::from_secs(30);

/// A running sshd. Users log in with `dir/key`.
pub(crate) struct Sshd {
    pub(crate) dir: TempDir,
    port: Port,
    child: Child,
}

impl Sshd {
    /// One with these lines in its configuration besides; the first of a keyword counts.
    pub(crate) fn new(lines: &[&str]) -> Self {
        Self::start(lines, "exec \"$@\"")
    }

    /// One as on CoreOS, where only the user `core` logs in. Only this sshd knows that user, who is root by number.
    pub(crate) fn of_coreos() -> Self {
        let users = "{ cat /etc/passwd; echo core:x:0:0::/:/bin/sh; } > \"$0\" && mount --bind \"$0\" /etc/passwd";
        Self::start(&["DenyUsers root"], &format!("{users} && exec \"$@\""))
    }

    /// `script` starts the sshd that its arguments are, in a file system that can be changed; `$0` is a file for it.
    fn start(lines: &[&str], script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for kind in ["ed25519", "ecdsa"] {
            keygen(&at(&format!("host_{kind}")), kind, "");
        }
        keygen(&at("key"), "ed25519", "");
        fs::copy(at("key.pub"), at("authorized_keys")).unwrap();
        // What runs over there finds these first.
        fs::create_dir(at("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_fleetctl"), at("bin/fleetctl")).unwrap();
        // sshd runs only where this is.
        fs::create_dir_all("/run/sshd").unwrap();
        let port = Port::reserve();
        let root = dir.path().display().to_string();
        let config = format!(
            "{}\nListenAddress {}\nHostKey {root}/host_ed25519\nHostKey {root}/host_ecdsa\n\
             AuthorizedKeysFile {root}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n\
             SetEnv PATH={root}/bin:/usr/local/bin:/usr/bin:/bin HOME={root}\nLogLevel VERBOSE\n",
            lines.join("\n"),
            port.address()
        );
        fs::write(at("config"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(at("passwd"))
            .args(["/usr/sbin/sshd", "-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("these tests need sshd (Debian: openssh-server; `contrib/deps check` installs it)");
        let sshd = Self { dir, port, child };
        let began = Instant::now();
        while TcpStream::connect(sshd.port.address()).is_err() {
            assert!(began.elapsed() < HANG, "sshd doesn't listen:\n{}", sshd.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        sshd
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// A program that is found over there.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A line for known_hosts with its key of this kind.
    pub(crate) fn known(&self, kind: &str) -> String {
        let public = fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {}\n", self.port(), public.trim())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A key pair at `file`.
pub(crate) fn keygen(file: &Path, kind: &str, passphrase: &str) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(file).status();
    assert!(status.unwrap().success());
}

/// An agent that holds the key at `key`.
pub(crate) struct Agent {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Agent {
    pub(crate) fn new(dir: &Path, keys: &[&Path]) -> Self {
        let socket = dir.join("agent.sock");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(began.elapsed() < HANG, "ssh-agent doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
            assert!(added.success());
        }
        Self { child, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
