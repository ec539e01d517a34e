//! `~/.ssh/config`: what is read first takes effect, and a refusal names its line. Files that are included aren't read,
//! because a target must not depend on this machine.

use std::path::Path;

use flotilla::ssh::config::within;

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.to_ascii_lowercase().contains("include") {
        return;
    }
    let read = |text: &str, name, behind| within(text, Path::new("config"), Path::new("/home/me"), name, behind);
    for name in ["n1", "10.88.0.11", "gate.lab"] {
        let (host, notes) = match read(text, name, true) {
            Ok(found) => found,
            Err(refused) => {
                let text = refused.to_string();
                assert!(text.starts_with("config:") && text.len() <= 1000 + data.len(), "{text}");
                continue;
            }
        };
        assert!(notes.iter().all(|note| note.starts_with("config:") && note.len() <= 1000 + data.len()));
        // A proxy is the only thing that is refused for a host that is reached directly.
        let direct = read(text, name, false);
        assert!(direct.is_ok_and(|found| found.0 == host) || text.to_ascii_lowercase().contains("proxy"));
        let with_user = format!("User first\nPort 7\n{text}");
        let (first, _) = read(&with_user, name, true).expect("two options more");
        assert_eq!((first.user.as_deref(), first.port), (Some("first"), Some(7)), "{text:?}");
        assert_eq!((&first.identities, &first.strict), (&host.identities, &host.strict), "{text:?}");
        let (last, _) = read(&format!("{text}\nHost *\nUser last\n"), name, true).expect("one option more");
        assert_eq!(last.user.as_deref(), host.user.as_deref().or(Some("last")), "{text:?}");
    }
}
