//! `known_hosts`: a verdict about a key follows from the lines that name its host. The input is such a file.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla::ssh::known_hosts::{At, Known, Verdict};

/// Hosts to ask for, with their ports.
const HOSTS: [(&str, u16); 4] = [("n1", 22), ("n1", 2222), ("10.88.0.11", 22), ("x.lab", 22)];

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut known = Known::default();
    known.add(Path::new("known"), text);
    let lines: Vec<&str> = text.lines().collect();
    let keys: Vec<Vec<u8>> = lines
        .iter()
        .flat_map(|line| line.split_ascii_whitespace())
        .filter_map(|word| STANDARD.decode(word).ok())
        .take(8)
        .chain([b"another key".to_vec()])
        .collect();
    for (host, port) in HOSTS {
        let kinds = known.kinds(host, port);
        assert!(kinds.len() <= lines.len() && kinds.iter().all(|kind| text.contains(kind)));
        for key in &keys {
            let has = |at: &At, key: &[u8]| {
                let words = lines[at.line - 1].split_ascii_whitespace();
                words.filter_map(|word| STANDARD.decode(word).ok()).any(|found| found == key)
            };
            match known.check(host, port, key) {
                Verdict::Known => assert!(!kinds.is_empty() && key != b"another key"),
                Verdict::Changed(at, other) => {
                    assert!(other != *key && has(&at, &other) && !kinds.is_empty());
                }
                Verdict::Revoked(at) => assert!(has(&at, key) && lines[at.line - 1].contains("@revoked")),
                Verdict::Unknown => {}
            }
        }
    }
    // Nothing that follows takes a key's revocation back.
    let revoked: Vec<_> = keys.iter().filter(|key| matches!(known.check("n1", 22, key), Verdict::Revoked(_))).collect();
    known.add(Path::new("more"), text);
    assert!(revoked.iter().all(|key| matches!(known.check("n1", 22, key), Verdict::Revoked(_))));
}
