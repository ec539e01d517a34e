//! The API: what a client sends on one connection, heads and bodies. Every answer is valid HTTP and no failure of the
//! server, the connection ends, a client changes only what its socket permits, and what was stored can be read.
//!
//! The input's first line is a socket as in `listen=`; the rest is what the client sends, before it reads until the
//! server closes the connection. Time is tokio's, and passes when everything waits.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla::api::server::health::{self, Health};
use flotilla::api::server::serve_stream;
use flotilla::api::server::state::{Api, AskHost, Own, Settings};
use flotilla::clock::Clock;
use flotilla::model::cluster::Cluster;
use flotilla::model::listen::Listen;
use flotilla::model::revision::Revision;
use flotilla::model::role::Role;
use flotilla::plan::host::local::HostView;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Op, Range, Store as _, Txn};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::halves;

const HOST: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";

/// What is in the store: a host, a unit with its file, and that it runs there.
const RECORDS: [(&str, &str); 5] = [
    (
        "machine/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
        concat!(
            r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1","metadata":{"zone":"a"},"#,
            r#""version":"0.1.0","boot_id":"b","since":5,"format":2}"#,
        ),
    ),
    ("file/dc244fef41a3382ca41f5c4ebc8b33614902a7ea", r#"{"text":"[Service]\nExecStart=/bin/a\n"}"#),
    (
        "unit/web@1.service",
        r#"{"desired":"launched","hash":"dc244fef41a3382ca41f5c4ebc8b33614902a7ea","generation":7,"submitted":5}"#,
    ),
    ("placement/web@1.service", r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5}}"#),
    (
        "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/web@1.service",
        r#"{"hash":"dc244fef41a3382ca41f5c4ebc8b33614902a7ea","target":"launched","generation":7}"#,
    ),
];

/// A body larger than this is refused: less than an input may have.
const BODY_LIMIT: usize = 1024;

/// How long the client waits for the end of the connection: longer than the server does for a head and for a body.
const PATIENCE: Duration = Duration::from_secs(100);

/// The most bytes of all answers: the longest answer is the API's description, and an input has room for some 150
/// requests for it.
const MOST: usize = 64 * 1024 * 1024;

/// What an admin reads after a change.
const PAGES: [&str; 5] =
    ["/fleet/v2/units", "/fleet/v2/services", "/fleet/v2/machines", "/fleet/v1/units", "/fleet/v1/state"];

pub fn target(data: &[u8]) {
    let (listen, requests) = halves(data);
    let Ok(listen) = std::str::from_utf8(listen) else { return };
    let Ok(listen) = listen.parse::<Listen>() else { return };
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(play(&listen, requests));
}

async fn play(listen: &Listen, requests: &[u8]) {
    let store = Embedded::in_memory();
    let put = |(key, value): (&str, &str)| Op::Put { key: key.into(), value: value.as_bytes().into(), lease: None };
    store.commit(Txn { guards: vec![], ops: RECORDS.map(put).into() }).await.expect("it is in memory");
    let before = revision(&store).await;
    let (_ready, health) = health::channel(Health::Ready);
    let settings = Settings { body_limit: BODY_LIMIT, ..Settings::default() };
    let clock = Clock::simulated(1_795_255_501_000);
    let api = Api::new(store.clone(), clock, "n1", health, settings).asking_host(AskHost::new(|| async {
        let host = HOST.parse().expect("a machine's id");
        let view = HostView { host, cluster: Cluster::default(), texts: BTreeMap::new() };
        Ok(Own { view, at: 9000, since: None })
    }));

    let (bytes, closed) = exchange(listen, requests, &api).await;
    let says = |word: &str| requests.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(closed || says("/watch"), "only a watch lasts for longer than {PATIENCE:?}");
    assert!(bytes.len() < MOST, "{} bytes for {}", bytes.len(), requests.len());
    let mut rest = &bytes[..];
    while let Some(answer) = Answer::read(&mut rest, closed, says("HEAD")) {
        answer.check();
    }
    if revision(&store).await == before {
        return;
    }
    let grant = &listen.grant;
    assert!(
        matches!(grant.role, Role::Admin | Role::Operator),
        "{grant} changed something, though its unit is unknown"
    );
    let admin: Listen = "unix:///a".parse().expect("a socket");
    let request = |page: &&str| format!("GET {page} HTTP/1.1\r\nhost: a\r\n\r\n");
    let requests: String = PAGES.iter().map(request).collect();
    let (bytes, _) = exchange(&admin, requests.as_bytes(), &api).await;
    let mut rest = &bytes[..];
    for page in PAGES {
        let answer = Answer::read(&mut rest, true, false).expect("an answer");
        let json = answer.check().expect("it is JSON");
        assert_eq!((answer.status, json.get("damaged")), (200, None), "{page}: {json}");
    }
}

async fn revision(store: &Embedded) -> Revision {
    store.range(Range::default()).await.expect("it is in memory").revision
}

/// Send these bytes on a connection. What comes back, and whether the server closes it before the client does.
async fn exchange(listen: &Listen, requests: &[u8], api: &Api<Embedded>) -> (Vec<u8>, bool) {
    let (mut client, server) = duplex(64 * 1024);
    let (listen, api) = (listen.clone(), api.clone());
    let serving = tokio::spawn(async move { serve_stream(server, &listen, &api).await });
    // The server may hang up in the middle of a request.
    let _ = client.write_all(requests).await;
    let mut bytes = Vec::new();
    let closed = timeout(PATIENCE, (&mut client).take(MOST as u64).read_to_end(&mut bytes)).await.is_ok();
    drop(client);
    let ended = timeout(PATIENCE, serving).await.expect("the server lets go of a connection whose client is gone");
    ended.expect("it doesn't panic");
    (bytes, closed)
}

/// An answer.
struct Answer<'a> {
    status: u16,
    headers: Vec<(String, &'a str)>,
    body: Vec<u8>,
    /// Whether its body was cut off, or isn't sent because only the head was asked for.
    is_partial: bool,
}

impl<'a> Answer<'a> {
    /// The next answer in `bytes`. If the server didn't close the connection, the last one may be incomplete. If
    /// `has_head`, some of the requests may have asked for the head only.
    fn read(bytes: &mut &'a [u8], closed: bool, has_head: bool) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        *bytes = &bytes[end + 4..];
        assert!(!head.contains(|c: char| c.is_control() && c != '\r' && c != '\n'), "{head:?}");
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().expect("a status line").splitn(3, ' ').collect();
        assert!(matches!(words[0], "HTTP/1.1" | "HTTP/1.0") && words.len() == 3, "{head:?}");
        let status = words[1].parse().expect("a status");
        let header = |line: &'a str| {
            let (name, value) = line.split_once(':').expect("a header");
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{line:?}");
            (name.to_ascii_lowercase(), value.trim())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let mut answer = Self { status, headers, body: Vec::new(), is_partial: false };
        if status >= 200 && status != 204 && status != 304 {
            answer.read_body(bytes, closed, has_head, words[0]);
        }
        Some(answer)
    }

    fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| *value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is given twice");
        value
    }

    fn read_body(&mut self, bytes: &mut &'a [u8], closed: bool, has_head: bool, version: &str) {
        let length = self.header("content-length").map(|length| length.parse::<usize>().expect("a length"));
        let chunked = self.header("transfer-encoding").is_some_and(|value| value == "chunked");
        assert!(!(chunked && length.is_some()), "the length is given twice");
        if has_head && (bytes.is_empty() || bytes.starts_with(b"HTTP/1.")) {
            self.is_partial = length != Some(0);
            return;
        }
        match length {
            Some(length) if length <= bytes.len() => {
                self.body = bytes[..length].to_vec();
                *bytes = &bytes[length..];
            }
            None if chunked => self.read_chunks(bytes, closed),
            _ => {
                let is_last = version == "HTTP/1.0" || self.header("connection") == Some("close");
                assert!(!closed || length.is_none() && is_last, "the body has no end");
                self.body = std::mem::take(bytes).to_vec();
                self.is_partial = !closed;
            }
        }
    }

    fn read_chunks(&mut self, bytes: &mut &'a [u8], closed: bool) {
        loop {
            let next = bytes.windows(2).position(|window| window == b"\r\n").and_then(|end| {
                let size = std::str::from_utf8(&bytes[..end]).expect("a size is text");
                let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
                bytes.get(end + 2..end + 2 + size + 2).map(|chunk| (&chunk[..size], &chunk[size..], end + 4 + size))
            });
            let Some((chunk, newline, length)) = next else {
                assert!(!closed, "a chunk is cut off: {:?}", String::from_utf8_lossy(bytes));
                self.is_partial = true;
                *bytes = &[];
                return;
            };
            assert_eq!(newline, b"\r\n");
            self.body.extend_from_slice(chunk);
            *bytes = &bytes[length..];
            if chunk.is_empty() {
                return;
            }
        }
    }

    /// It is no failure of the server. A refusal says why. The body, if it is JSON.
    fn check(&self) -> Option<Value> {
        let text = String::from_utf8_lossy(&self.body);
        assert!(self.status < 500, "{}: {text}", self.status);
        if self.header("content-type") != Some("application/json") || self.is_partial {
            // The HTTP library itself refuses heads that it can't understand, without a body.
            assert!(self.status < 400 || self.body.is_empty(), "{}: {text}", self.status);
            return None;
        }
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if self.status >= 400 {
            assert_eq!(json["error"]["code"], self.status, "{json}");
            assert!(json["error"]["message"].is_string(), "{json}");
        }
        Some(json)
    }
}
