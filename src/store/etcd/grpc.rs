//! Real members, over gRPC.
//!
//! Owns connections with their certificates and passwords, and the mapping of requests, answers and errors; the only
//! user of `etcd-client`. It must never retry, choose a member or decide what an error means. `etcd-client`'s own
//! balancer isn't used, since it spreads requests over all members, including dead ones.

use std::io;
use std::time::Duration;

use etcd_client::{
    Channel, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, PutOptions, ResponseHeader, TxnOp,
    WatchOptions, WatchStream,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::Options;
use super::client::{
    Change, Code, Condition, Connection, Fault, Found, KeyValue, Keys, Member, Message, Outcome, Status, Step, Stream,
    Transaction,
};
use crate::store::{Error, LeaseId, MemberState, Revision};

/// The interval of HTTP/2 pings, and how long an answer may take. The server treats intervals below 5 s as an attack.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// The largest accepted message of a watch in bytes: etcd puts up to 1,000 revisions into one when a watch catches up.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A member at one address.
#[derive(Debug)]
pub struct Grpc {
    address: String,
    endpoint: Endpoint,
    options: ConnectOptions,
    authenticated: bool,
    hint: &'static str,
}

impl Grpc {
    /// All endpoints of `options`.
    pub(super) fn all(options: &Options) -> Result<Vec<Self>, Error> {
        let tls = tls(options)?;
        options.endpoints.iter().map(|endpoint| Self::new(endpoint, options, tls.as_ref())).collect()
    }

    fn new(given: &str, options: &Options, tls: Option<&ClientTlsConfig>) -> Result<Self, Error> {
        let refused = |reason: String| Error::Refused(format!("the etcd endpoint `{given}` is invalid: {reason}"));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let uri = if given.contains("://") { given.to_owned() } else { format!("{scheme}://{given}") };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|error| refused(error.to_string()))?
            .connect_timeout(options.request_timeout / 2)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match (endpoint.uri().scheme_str(), tls) {
            (Some("https"), Some(tls)) => {
                endpoint = endpoint.tls_config(tls.clone()).map_err(|error| refused(error.to_string()))?;
            }
            (Some("https"), None) => return Err(refused("https needs a CA certificate".into())),
            (Some("http"), None) => {}
            (Some("http"), Some(_)) => return Err(refused("certificates are configured, but it is not https".into())),
            _ => return Err(refused("it must begin with http:// or https://".into())),
        }
        let Some(address) = endpoint.uri().authority().map(ToString::to_string) else {
            return Err(refused("it has no host".into()));
        };
        let mut connect = ConnectOptions::new().with_require_leader(true);
        if let Some((user, password)) = &options.user {
            connect = connect.with_user(user, password).with_auto_token_refresh(true);
        }
        // With TLS 1.3 a server can reject a client silently after the handshake, and a TLS server closes a plain-text
        // connection.
        let hint = match (tls, &options.identity) {
            (None, _) => "does it require https?",
            (Some(_), None) => "does it require a client certificate?",
            (Some(_), Some(_)) => "does it accept our certificate?",
        };
        Ok(Self { address, endpoint, options: connect, authenticated: options.user.is_some(), hint })
    }
}

impl Member for Grpc {
    type Connection = Link;

    fn address(&self) -> &str {
        &self.address
    }

    fn hint(&self) -> &'static str {
        self.hint
    }

    async fn connect(&self) -> Result<Link, Fault> {
        let channel = self.endpoint.connect().await.map_err(|error| Fault::Unreachable(unreachable(&error)))?;
        let client = Client::from_channel(Channel::Tonic(channel), Some(self.options.clone())).await.map_err(fault)?;
        Ok(Link { client, authenticated: self.authenticated })
    }
}

/// A connection to a member.
#[derive(Clone)]
pub struct Link {
    client: Client,
    authenticated: bool,
}

impl Connection for Link {
    type Stream = WatchStream;

    async fn range(&self, keys: Keys<'_>) -> Result<Found, Fault> {
        let limit = i64::try_from(keys.limit).unwrap_or(i64::MAX);
        let mut options = GetOptions::new().with_range(keys.end).with_limit(limit);
        if let Some(at) = keys.at {
            options = options.with_revision(signed(at));
        }
        let mut client = self.client.kv_client().max_decoding_message_size(keys.bytes);
        let mut answer = client.get(keys.begin, Some(options)).await.map_err(fault)?;
        let kvs = answer.take_kvs().into_iter().map(key_value).collect();
        let cluster = answer.header().map_or(0, ResponseHeader::cluster_id);
        Ok(Found { kvs, more: answer.more(), revision: revision(answer.header()), cluster })
    }

    async fn txn(&self, txn: &Transaction) -> Result<Outcome, Fault> {
        let compare = |condition: &Condition| match condition {
            Condition::Created(key, at) => Compare::create_revision(key.clone(), CompareOp::Equal, *at),
            Condition::Modified(key, at) => Compare::mod_revision(key.clone(), CompareOp::Equal, *at),
        };
        let step = |step: &Step| match step {
            Step::Put { key, value, lease: 0 } => TxnOp::put(key.clone(), value.clone(), None),
            Step::Put { key, value, lease } => {
                TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(*lease)))
            }
            Step::Delete(key) => TxnOp::delete(key.clone(), None),
            Step::Count(key) => TxnOp::get(key.clone(), Some(GetOptions::new().with_count_only())),
        };
        let (when, then): (Vec<_>, Vec<_>) =
            (txn.when.iter().map(compare).collect(), txn.then.iter().map(step).collect());
        let txn = etcd_client::Txn::new().when(when).and_then(then);
        let answer = self.client.clone().txn(txn).await.map_err(fault)?;
        Ok(Outcome { succeeded: answer.succeeded(), revision: revision(answer.header()) })
    }

    async fn watch(&self, begin: &[u8], end: &[u8], from: Revision) -> Result<WatchStream, Fault> {
        if self.authenticated {
            // etcd always rejects a watch with an expired token as "not permitted"; any other request renews the token.
            let options = GetOptions::new().with_keys_only().with_limit(1);
            self.client.clone().get(begin, Some(options)).await.map_err(fault)?;
        }
        let options = WatchOptions::new().with_range(end).with_start_revision(signed(from));
        let mut watches = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
        let mut stream = watches.watch(begin, Some(options)).await.map_err(fault)?;
        match stream.message().await.map_err(fault)? {
            // A refusal arrives as a second message, or as the only one.
            Some(created) if created.created() && !created.canceled() => Ok(stream),
            Some(refused) if refused.cancel_reason().contains("permission denied") => {
                Err(Fault::Answer(Code::PermissionDenied, refused.cancel_reason().to_owned()))
            }
            Some(refused) => Err(Fault::Other(format!("watch error: {}", refused.cancel_reason()))),
            None => Err(Fault::Other("watch error: the stream ended".into())),
        }
    }

    async fn grant(&self, seconds: i64) -> Result<(LeaseId, Duration), Fault> {
        let answer = self.client.clone().lease_grant(seconds, None).await.map_err(fault)?;
        Ok((LeaseId(answer.id()), whole(answer.ttl())))
    }

    /// One stream for each renewal: it costs a few hundred bytes, and leaves no stream to manage when a member dies.
    async fn keep_alive(&self, lease: LeaseId, known: Option<Duration>) -> Result<Duration, Fault> {
        let (mut keeper, mut answers) = self.client.clone().lease_keep_alive(lease.0).await.map_err(fault)?;
        if let Some(known) = known {
            return Ok(known);
        }
        // The client consumes the first answer; the second one contains the TTL.
        keeper.keep_alive().await.map_err(fault)?;
        match answers.message().await.map_err(fault)?.map(|answer| answer.ttl()) {
            Some(ttl) if ttl > 0 => Ok(whole(ttl)),
            _ => Err(Fault::LeaseGone),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Fault> {
        self.client.clone().lease_revoke(lease.0).await.map(drop).map_err(fault)
    }

    async fn status(&self) -> Result<Status, Fault> {
        let status = self.client.clone().status().await.map_err(fault)?;
        let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
        let state = MemberState {
            id: status.header().map_or(0, ResponseHeader::member_id),
            version: status.version().to_owned(),
            leader: status.leader(),
            size: bytes(status.db_size()),
            in_use: bytes(status.raft_used_db_size()),
            quota: Some(bytes(status.db_size_quota())).filter(|quota| *quota > 0),
            troubles: status.errors().iter().map(|trouble| trouble.trim().to_owned()).collect(),
        };
        Ok(Status { cluster: status.header().map_or(0, ResponseHeader::cluster_id), state })
    }
}

impl Stream for WatchStream {
    async fn next(&mut self) -> Result<Message, Fault> {
        let Some(message) = self.message().await.map_err(fault)? else { return Ok(Message::Ended) };
        if message.canceled() {
            return Ok(match message.compact_revision() {
                0 => Message::Cancelled(plain(message.cancel_reason()).to_owned()),
                _ => Message::Compacted,
            });
        }
        let changes = message.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            Some(match event.event_type() {
                EventType::Put => Change::Put(key_value(kv.clone())),
                EventType::Delete => Change::Delete(kv.key().to_vec(), Revision(kv.mod_revision().unsigned_abs())),
            })
        });
        Ok(Message::Changes(changes.collect()))
    }
}

fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let (modified, lease) = (Revision(kv.mod_revision().unsigned_abs()), kv.lease());
    let (key, value) = kv.into_key_value();
    KeyValue { key, value, modified, lease }
}

fn revision(header: Option<&ResponseHeader>) -> Revision {
    Revision(header.map_or(0, ResponseHeader::revision).unsigned_abs())
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

/// etcd's text without the prefix that every text has.
fn plain(text: &str) -> &str {
    text.strip_prefix("etcdserver: ").unwrap_or(text)
}

/// The fault behind an error of `etcd-client`.
fn fault(error: etcd_client::Error) -> Fault {
    use etcd_client::Error as E;
    match error {
        E::GRpcStatus(status) => answer(&status),
        // `etcd-client` turns a keep-alive answer with TTL 0 into this text.
        E::LeaseKeepAliveError(text) if text.contains("lease not found") => Fault::LeaseGone,
        E::InvalidArgs(text) => Fault::Malformed(text),
        E::InvalidUri(error) => Fault::Malformed(error.to_string()),
        other => Fault::Other(other.to_string()),
    }
}

/// A status has a source only if it isn't the member's answer.
fn answer(status: &tonic::Status) -> Fault {
    let (code, text) = (status.code(), status.message());
    match std::error::Error::source(status) {
        Some(source) if code == Code::Unavailable && is_connecting(source) => Fault::Unreachable(unreachable(source)),
        Some(_) => Fault::Broken,
        None if code == Code::Cancelled => Fault::Broken,
        None if code == Code::OutOfRange && text.contains("decoded message length too large") => Fault::TooLarge,
        None => Fault::Answer(code, plain(text).to_owned()),
    }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Whether connecting failed, so that nothing was sent. `tonic` doesn't export that error, but one of an open
/// connection passes through `hyper`.
fn is_connecting(source: &(dyn std::error::Error + 'static)) -> bool {
    chain(source).all(|error| !error.is::<hyper::Error>())
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let kind = chain(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "refuses connections".into(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "can't be reached: no route".into(),
        Some(io::ErrorKind::TimedOut) => "does not accept a connection in time".into(),
        _ => {
            let mut texts: Vec<String> = chain(error).map(ToString::to_string).collect();
            texts.dedup();
            format!("can't be reached: {}", texts.last().map_or("unknown error", String::as_str))
        }
    }
}

fn tls(options: &Options) -> Result<Option<ClientTlsConfig>, Error> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| Error::Refused(format!("`{}` can't be read: {error}", path.display())))
    };
    let Some(ca) = &options.ca else {
        return match options.identity {
            Some(_) => Err(Error::Refused("a client certificate for etcd needs a CA certificate too".into())),
            None => Ok(None),
        };
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let Some((certificate, key)) = &options.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(Some(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_answers_is_told_from_what_happens_to_a_connection() {
        let status = |code, text: &str| tonic::Status::new(code, text);
        let broken = |code, error: io::Error| {
            let mut status = status(code, "transport error");
            status.set_source(std::sync::Arc::new(error));
            status
        };
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        for (status, wanted) in [
            (status(Code::Unavailable, "etcdserver: no leader"), Fault::Answer(Code::Unavailable, "no leader".into())),
            (status(Code::OutOfRange, "Error, decoded message length too large: 5"), Fault::TooLarge),
            (status(Code::Cancelled, "h2"), Fault::Broken),
            (broken(Code::Unknown, reset), Fault::Broken),
            (broken(Code::Unavailable, refused), Fault::Unreachable("refuses connections".into())),
        ] {
            assert_eq!(fault(etcd_client::Error::GRpcStatus(status)), wanted);
        }
        assert_eq!(fault(etcd_client::Error::LeaseKeepAliveError("lease not found".into())), Fault::LeaseGone);
        assert_eq!(fault(etcd_client::Error::InvalidArgs("x".into())), Fault::Malformed("x".into()));
    }
}
