//! `fleetctl` and https:// endpoints: trusted authorities, client certificates, and that no request is sent to an
//! unverified server.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/fake.rs"]
#[allow(dead_code, reason = "the other tests of the command line use the rest")]
mod fake;

use std::path::PathBuf;
use std::sync::Arc;

use fake::{Fake, Ran, Script, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

/// An authority, and a server in front of a fake API, with a certificate of this authority.
struct Site {
    fake: Fake,
    authority: CertifiedIssuer<'static, KeyPair>,
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Site {
    /// A server whose certificate has `names`, and which may require client certificates.
    fn new(names: &[&str], wants_certificate: bool) -> Self {
        let machines = vec![json!({
            "id": "a2d7e4a6000000000000000000000001", "ip": "10.88.0.11", "hostname": "n1",
            "metadata": {}, "version": "1",
        })];
        let fake = Fake::new(Script { machines, ..Script::default() });
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], private).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = fake.dir.path().join("fleet.sock");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut api = tokio::net::UnixStream::connect(socket).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut api).await);
                });
            }
        });
        let site = Self { fake, authority, port, _runtime: runtime };
        site.pem("ca.pem", &site.authority.pem());
        site
    }

    fn pem(&self, name: &str, text: &str) -> PathBuf {
        self.fake.file(name, text);
        self.fake.dir.path().join(name)
    }

    /// A certificate and its key, signed by `authority`, as `NAME.pem` and `NAME.key`.
    fn client(&self, name: &str, authority: &CertifiedIssuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
        self.pem(&format!("{name}.pem"), &certificate.pem());
        self.pem(&format!("{name}.key"), &key.serialize_pem());
    }

    fn run(&self, options: &str) -> Ran {
        let mut command = self.fake.command(&format!("{options} list-machines"));
        command.env("FLEETCTL_ENDPOINT", format!("https://127.0.0.1:{}", self.port));
        run(command)
    }

    #[track_caller]
    fn refused(&self, options: &str, words: &str) {
        let before = self.fake.asked().len();
        let ran = self.run(options);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.err.contains(words), "no `{words}` in {}", ran.err);
        assert_eq!(self.fake.asked().len(), before, "something was asked all the same");
    }
}

#[test]
fn a_server_is_talked_to_if_its_authority_is_trusted() {
    let site = Site::new(&["127.0.0.1"], false);
    let plain = site.fake.run("list-machines");
    assert_eq!((site.run("--ca-file ca.pem"), plain.code), (plain, Some(0)));
    site.refused("", "UnknownIssuer");
    site.pem("other.pem", &authority().pem());
    site.refused("--ca-file other.pem", "invalid peer certificate");
}

#[test]
fn a_sidecar_checks_as_well_whom_it_talks_to() {
    let site = Site::new(&["127.0.0.1"], true);
    site.client("me", &site.authority);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fleet-sidecar"));
    command.args(["announce", "web", "--port", "1"]).current_dir(site.fake.dir.path());
    command.env("FLEETCTL_ENDPOINT", format!("https://127.0.0.1:{}", site.port)).env("FLEETCTL_CA_FILE", "ca.pem");
    command.env("FLEETCTL_CERT_FILE", "me.pem").env("FLEETCTL_KEY_FILE", "me.key");
    let output = command.output().unwrap();
    // The fake answers like an old fleetd.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("doesn't report which host it is on") && !output.status.success(), "{said}");
    assert_eq!(site.fake.asked().len(), 1);
}

/// fleet verified certificates only if it had one of its own.
#[test]
fn a_server_that_goes_by_another_name_is_not_talked_to() {
    let site = Site::new(&["fleet.example.com"], false);
    site.refused("--ca-file ca.pem", "not valid for name");
}

#[test]
fn who_comes_shows_a_certificate_if_the_server_wants_one() {
    let site = Site::new(&["127.0.0.1"], true);
    site.client("me", &site.authority);
    assert_eq!(site.run("--ca-file ca.pem --cert-file me.pem --key-file me.key").code, Some(0));
    site.client("stranger", &authority());
    site.refused("--ca-file ca.pem --cert-file stranger.pem --key-file stranger.key", "can't reach fleetd");
    site.refused("--ca-file ca.pem", "can't reach fleetd");
}

#[test]
fn files_that_cannot_be_used_are_usage_errors() {
    let site = Site::new(&["127.0.0.1"], false);
    site.client("me", &site.authority);
    site.client("you", &site.authority);
    let cases = [
        ("--cert-file me.pem", "a certificate and its key go together"),
        ("--key-file me.key", "a certificate and its key go together"),
        ("--ca-file missing.pem", "missing.pem: no certificate can be read from it"),
        ("--ca-file me.key", "me.key: no certificate can be read from it"),
        ("--cert-file me.pem --key-file me.pem", "me.pem: no private key can be read from it"),
        ("--cert-file me.pem --key-file you.key", "the certificate can't be used"),
    ];
    for (options, words) in cases {
        let options =
            if options.contains("--ca-file") { options.to_owned() } else { format!("--ca-file ca.pem {options}") };
        let ran = site.run(&options);
        assert!(ran.code == Some(2) && ran.err.contains(words), "{options}: {ran:?}");
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_told_apart() {
    let site = Site::new(&["127.0.0.1"], false);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        drop(std::io::Read::read_to_end(&mut stream, &mut rest));
    });
    let mut command = site.fake.command("--ca-file ca.pem list-machines");
    command.env("FLEETCTL_ENDPOINT", format!("https://127.0.0.1:{port}"));
    let ran = run(command);
    assert!(ran.code == Some(1) && ran.err.contains("it doesn't speak TLS"), "{ran:?}");
}
