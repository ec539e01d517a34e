//! From an endpoint to a stream for HTTP: sockets of this host, another way if there is one, TLS if the endpoint
//! requires it. Owns certificates and trust; never sends anything to a server that can't prove its identity.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Endpoint;

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection of any kind.
pub type Stream = Box<dyn Duplex>;

/// The result of [`Dial::dial`].
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Another way to the endpoints than directly from this host.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to what `endpoint` names, without TLS, which is added by the caller.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a>;
}

/// Which servers to trust, and which certificate to present to them.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Certificates that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read, or contains something else.
    #[error("{}: {why}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate without a key, or the reverse.
    #[error("a certificate and its key go together: `--cert-file` and `--key-file`")]
    Half,
    /// No trusted authority.
    #[error("this system trusts no certificate authority ({0}); name one with `--ca-file`")]
    NoRoots(String),
    /// For example, certificate and key don't match.
    #[error("the certificate can't be used: {0}")]
    Unusable(String),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trust the authorities in `ca`, or without it those of the system; present `cert` to servers that request one.
    /// All files are PEM.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<Self, TlsError> {
        let roots = match ca {
            Some(file) => authorities(file)?,
            None => system()?,
        };
        let unusable = |error: &dyn fmt::Display| TlsError::Unusable(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots);
        let config = match (cert, key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, "a private key", &error))?;
                let config = builder.with_client_auth_cert(certificates(cert)?, private);
                config.map_err(|error| unusable(&error))?
            }
            _ => return Err(TlsError::Half),
        };
        Ok(Self(Arc::new(config)))
    }

    async fn speak(&self, authority: &str, stream: Stream) -> io::Result<Stream> {
        let host = host_and_port(authority).0;
        let name = ServerName::try_from(host).map_err(|error| io::Error::other(error.to_string()))?;
        let stream = TlsConnector::from(self.0.clone()).connect(name, stream).await.map_err(|error| {
            // The answer isn't TLS: most likely the server speaks plain HTTP.
            let plain = error.to_string().contains("InvalidContentType");
            io::Error::new(error.kind(), if plain { "it doesn't speak TLS".into() } else { error.to_string() })
        })?;
        Ok(Box::new(stream))
    }
}

fn wrong(file: &Path, wanted: &str, error: &dyn fmt::Display) -> TlsError {
    TlsError::File {
        file: file.into(),
        why: format!("no {wanted} can be read from it: {error}").replace("no a ", "no "),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| wrong(file, "certificate", &error))?;
    if all.is_empty() { Err(wrong(file, "certificate", &"it holds none")) } else { Ok(all) }
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| wrong(file, "certificate", &error))?;
    }
    Ok(roots)
}

fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found.certs).0 > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(|| "none is installed".into(), ToString::to_string);
    Err(TlsError::NoRoots(why))
}

/// `[::1]:80` → `::1` and 80.
fn host_and_port(authority: &str) -> (String, u16) {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (host.trim_matches(['[', ']']).into(), port.parse().unwrap_or(0))
}

impl Endpoint {
    /// The host and the port of an endpoint that is reached over TCP.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        match self {
            Self::Unix(_) => None,
            Self::Http(authority) | Self::Https(authority) => Some(host_and_port(authority)),
        }
    }
}

/// Open a connection to `endpoint`.
pub(super) async fn open(endpoint: &Endpoint, dial: Option<&dyn Dial>, tls: Option<&Tls>) -> io::Result<Stream> {
    let stream: Stream = match (dial, endpoint) {
        (Some(dial), _) => dial.dial(endpoint).await?,
        (None, Endpoint::Unix(path)) => Box::new(UnixStream::connect(path).await?),
        (None, Endpoint::Http(authority) | Endpoint::Https(authority)) => {
            let stream = TcpStream::connect(authority.as_str()).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    match (endpoint, tls) {
        (Endpoint::Https(authority), Some(tls)) => tls.speak(authority, stream).await,
        (Endpoint::Https(_), None) => Err(io::Error::other("there are no certificates to check it with")),
        _ => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_taken_apart() {
        assert_eq!(host_and_port("[::1]:80"), ("::1".into(), 80));
        assert_eq!(host_and_port("n1:49153"), ("n1".into(), 49153));
    }

    #[test]
    fn certificates_that_cannot_be_used_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pem");
        std::fs::write(&file, "nothing\n").unwrap();
        let said = Tls::load(Some(&file), None, None).unwrap_err().to_string();
        assert!(said.ends_with("x.pem: no certificate can be read from it: it holds none"), "{said}");
        assert!(matches!(Tls::load(Some(&file), Some(&file), None), Err(TlsError::File { .. })));
        let missing = Tls::load(Some(&folder.path().join("missing")), None, None).unwrap_err().to_string();
        assert!(missing.contains("missing: no certificate can be read from it"), "{missing}");
    }
}
