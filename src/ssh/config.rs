//! The settings of a host in `~/.ssh/config`. Owns those options of `ssh_config(5)` that determine the address, the
//! user, the key and the trust in a host. An unsupported option that would change these is an error and never ignored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Strict, pattern};

/// The nesting limit of included files, as in OpenSSH.
const DEPTH: usize = 16;

/// The settings of a host. The first value of an option takes effect.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `HostName`: the address.
    pub host_name: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `IdentityFile`: all values are used.
    pub identities: Vec<String>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `UserKnownHostsFile`.
    pub known_hosts: Option<Vec<String>>,
    /// `StrictHostKeyChecking`.
    pub strict: Option<Strict>,
    /// `HostKeyAlias`.
    pub alias: Option<String>,
    /// `IdentityAgent`.
    pub agent: Option<String>,
    /// The proxy option, and whether it is `none`.
    proxy: Option<(String, bool)>,
}

struct Reading<'a> {
    home: &'a Path,
    name: &'a str,
    host: Host,
    notes: Vec<String>,
}

/// As in [`within`], for the user's own configuration under `home`.
pub(super) fn lookup(home: &Path, name: &str, behind: bool) -> Result<(Host, Vec<String>), Error> {
    let file = home.join(".ssh/config");
    within(&text_of(&file)?, &file, home, name, behind)
}

/// The settings of `name`, and warnings for the user, in the `text` of the `file`, whose user has the directory `home`.
/// The files that it includes are read. For a host `behind` a jump host, proxy options are ignored.
///
/// # Errors
/// A line that isn't valid, a file that can't be read, or an option without which the address would be wrong.
pub fn within(text: &str, file: &Path, home: &Path, name: &str, behind: bool) -> Result<(Host, Vec<String>), Error> {
    let mut reading = Reading { home, name, host: Host::default(), notes: Vec::new() };
    reading.lines(text, file, true, 0)?;
    if let (Some((said, false)), false) = (&reading.host.proxy, behind) {
        return Err(Error::new(format!("{said} isn't supported, and without it the address of {name} would be wrong"))
            .hint(format!("`--tunnel` goes through one host; or set `ProxyJump none` for {name}")));
    }
    if let Some(host) = &mut reading.host.host_name {
        *host = host.replace("%h", name).replace("%%", "%");
    }
    Ok((reading.host, reading.notes))
}

/// The text of a file, which may be missing.
fn text_of(file: &Path) -> Result<String, Error> {
    match fs::read(file) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::new(format!("can't read {}: {error}", file.display()))),
    }
}

/// Expand the tokens in a path.
pub(super) fn expand(path: &str, home: &Path, address: &str, user: &str) -> PathBuf {
    let path = match path.strip_prefix("~/") {
        Some(rest) => home.join(rest).display().to_string(),
        None => path.into(),
    };
    let mut expanded = String::new();
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        match (char, chars.as_str().chars().next()) {
            ('%', Some(token @ ('d' | 'h' | 'r' | '%'))) => {
                chars.next();
                match token {
                    'd' => expanded.push_str(&home.display().to_string()),
                    'h' => expanded.push_str(address),
                    'r' => expanded.push_str(user),
                    _ => expanded.push('%'),
                }
            }
            _ => expanded.push(char),
        }
    }
    let expanded = PathBuf::from(expanded);
    // As in OpenSSH: a relative path is relative to the working directory.
    if expanded.starts_with("~") { home.join(expanded.strip_prefix("~").unwrap_or(&expanded)) } else { expanded }
}

impl Reading<'_> {
    fn lines(&mut self, text: &str, file: &Path, mut active: bool, depth: usize) -> Result<(), Error> {
        // In the block of another host, an included file is ignored entirely.
        let wanted = active;
        for (index, line) in text.lines().enumerate() {
            let at = || format!("{}:{}", file.display(), index + 1);
            let Some((key, args)) = split(line) else {
                if !line.trim_ascii().is_empty() && !line.trim_ascii_start().starts_with('#') {
                    return Err(Error::new(format!("{}: not a valid line: {}", at(), line.trim_ascii())));
                }
                continue;
            };
            match key.as_str() {
                "host" => active = wanted && pattern::any(args.iter().map(String::as_str), self.name),
                "match" => active = wanted && self.matched(&args, &at()),
                "include" if active => self.include(&args, depth)?,
                _ if active => self.option(&key, &args, &at())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn include(&mut self, args: &[String], depth: usize) -> Result<(), Error> {
        if depth >= DEPTH {
            return Err(Error::new("~/.ssh/config includes itself"));
        }
        for arg in args {
            let path = expand(arg, self.home, self.name, "");
            let path = if path.is_absolute() { path } else { self.home.join(".ssh").join(path) };
            for file in files(&path) {
                self.lines(&text_of(&file)?, &file, true, depth + 1)?;
            }
        }
        Ok(())
    }

    /// `Match all`, and matches by host. Other criteria can only be evaluated by OpenSSH.
    fn matched(&mut self, args: &[String], at: &str) -> bool {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["all"] => true,
            [key, patterns] if key.eq_ignore_ascii_case("originalhost") => pattern::any(patterns.split(','), self.name),
            [key, patterns] if key.eq_ignore_ascii_case("host") => {
                let name = self.host.host_name.as_deref().unwrap_or(self.name);
                pattern::any(patterns.split(','), name)
            }
            _ => {
                self.notes
                    .push(format!("{at}: `Match {}` isn't supported, what follows it is ignored", args.join(" ")));
                false
            }
        }
    }

    fn option(&mut self, key: &str, args: &[String], at: &str) -> Result<(), Error> {
        let bad = |what: &str| Error::new(format!("{at}: {what}, not `{}`", args.join(" ")));
        let one = || args.first().filter(|_| args.len() == 1).cloned().ok_or_else(|| bad("expected one value"));
        let yes = || match one()?.as_str() {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(bad("expected yes or no")),
        };
        let host = &mut self.host;
        match key {
            "hostname" => keep(&mut host.host_name, one()?),
            "user" => keep(&mut host.user, one()?),
            "hostkeyalias" => keep(&mut host.alias, one()?),
            "identityagent" => keep(&mut host.agent, one()?),
            "port" => keep(&mut host.port, one()?.parse().map_err(|_| bad("expected a port"))?),
            "identityfile" => {
                let file = one()?;
                if file != "none" && !host.identities.contains(&file) {
                    host.identities.push(file);
                }
            }
            "identitiesonly" => keep(&mut host.identities_only, yes()?),
            "userknownhostsfile" => keep(&mut host.known_hosts, args.to_vec()),
            "stricthostkeychecking" => keep(
                &mut host.strict,
                match one()?.as_str() {
                    "yes" | "true" => Strict::Yes,
                    "ask" => Strict::Ask,
                    "accept-new" => Strict::AcceptNew,
                    "no" | "off" | "false" => Strict::No,
                    _ => return Err(bad("expected yes, no, ask or accept-new")),
                },
            ),
            "proxyjump" | "proxycommand" => {
                let name = if key == "proxyjump" { "ProxyJump" } else { "ProxyCommand" };
                let none = args.first().is_some_and(|arg| arg.eq_ignore_ascii_case("none"));
                keep(&mut host.proxy, (format!("{at}: {name}"), none));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The files that match `path`, sorted, as in glob(3): `*` and `?` in each component, without hidden files unless the
/// pattern begins with a dot, so that an editor's swap file isn't included.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        match part.as_os_str().to_str().filter(|part| part.contains(['*', '?'])) {
            None => found.iter_mut().for_each(|path| path.push(part)),
            Some(wanted) => found = found.iter().flat_map(|folder| inside(folder, wanted)).collect(),
        }
    }
    found.retain(|path| path.is_file());
    found
}

fn inside(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let is_wanted = |name: &str| wanted.starts_with('.') == name.starts_with('.') && pattern::matches(wanted, name);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_wanted)).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn keep<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// A line's keyword in lower case, and its values. `None` for comments, empty lines and invalid lines.
fn split(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim_ascii();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=')?;
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_ascii();
    let (mut args, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for char in rest.chars() {
        match char {
            '"' => (quoted, begun) = (!quoted, true),
            '#' if !quoted && !begun => break,
            c if c.is_ascii_whitespace() && !quoted => {
                if begun {
                    args.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        args.push(word);
    }
    (!quoted && !args.is_empty() && !key.is_empty()).then(|| (key.to_ascii_lowercase(), args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".ssh/config.d")).unwrap();
        fs::write(home.path().join(".ssh/config"), config).unwrap();
        home
    }

    #[test]
    fn the_first_word_on_a_matter_counts() {
        let home = home(
            "# mine\nHost n1 n2\n  HostName=10.88.0.11\n  User \"ad min\"\n  IdentityFile ~/.ssh/one # mine\n\
             Host * !n2\n\tUser other\n Port 2222\n IdentityFile ~/.ssh/two\n IdentitiesOnly yes\n\
             StrictHostKeyChecking accept-new\n UserKnownHostsFile ~/a /b\n",
        );
        let (n1, notes) = lookup(home.path(), "n1", false).unwrap();
        assert_eq!(notes, [""; 0]);
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = Host {
            host_name: Some("10.88.0.11".into()),
            user: Some("ad min".into()),
            port: Some(2222),
            identities: words(&["~/.ssh/one", "~/.ssh/two"]),
            identities_only: Some(true),
            known_hosts: Some(words(&["~/a", "/b"])),
            strict: Some(Strict::AcceptNew),
            ..Host::default()
        };
        assert_eq!(n1, expected);
        // White space is that of OpenSSH: this line has another keyword.
        let strange = self::home("\u{a0}Port 7\n\u{a0}\u{b} Port 8\n");
        assert_eq!(lookup(strange.path(), "n1", false).unwrap().0, Host::default());
        let (n2, _) = lookup(home.path(), "n2", false).unwrap();
        assert_eq!((n2.port, n2.user.as_deref()), (None, Some("ad min")));
        assert_eq!(lookup(home.path(), "n3", false).unwrap().0.user.as_deref(), Some("other"));
    }

    #[test]
    fn included_files_count_where_they_are_included() {
        let home = home("Host n1\n Include config.d/*.conf\nHost n2\n User last\n");
        fs::write(home.path().join(".ssh/config.d/a.conf"), "User included\nHost n9\n Port 9\n").unwrap();
        fs::write(home.path().join(".ssh/config.d/b.txt"), "Port 10\n").unwrap();
        let (n1, _) = lookup(home.path(), "n1", false).unwrap();
        assert_eq!((n1.user.as_deref(), n1.port), (Some("included"), None));
        assert_eq!(lookup(home.path(), "n2", false).unwrap().0.user.as_deref(), Some("last"));
        // Hidden files and folders don't match, and a folder's name may be a pattern too.
        fs::write(home.path().join(".ssh/config.d/.a.conf.swp"), "b0VIM garbage").unwrap();
        fs::create_dir(home.path().join(".ssh/config.d/folder")).unwrap();
        fs::write(home.path().join(".ssh/config"), "Include config.d/* c*.d/b.t?t\n").unwrap();
        let (n1, _) = lookup(home.path(), "n1", false).unwrap();
        assert_eq!((n1.user.as_deref(), n1.port), (Some("included"), Some(10)));
        fs::write(home.path().join(".ssh/config.d/c.conf"), "Include config\n").unwrap();
        fs::write(home.path().join(".ssh/config"), "Include config.d/c.conf\n").unwrap();
        assert!(lookup(home.path(), "n1", false).unwrap_err().to_string().contains("includes itself"));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let refused = |config: &str| lookup(home(config).path(), "n1", false).map(|_| ()).unwrap_err().to_string();
        let jump = refused("Host *\n ProxyJump gate\n");
        assert!(jump.contains("config:2: ProxyJump isn't supported"), "{jump}");
        assert!(refused("ProxyCommand nc %h %p\n").contains("ProxyCommand isn't supported"));
        assert!(refused("Port many\n").contains("config:1: expected a port, not `many`"));
        assert!(refused("IdentitiesOnly maybe\n").contains("expected yes or no"));
        assert!(refused("User\n").contains("config:1: not a valid line: User"));
        // It doesn't matter for other hosts, nor if it is `none`.
        let home = home("Host n1\n ProxyJump none\nHost *\n ProxyJump gate\nMatch exec true\n User x\n");
        let (host, notes) = lookup(home.path(), "n1", false).unwrap();
        assert_eq!((host.user, notes.len()), (None, 1));
        assert!(notes[0].contains("`Match exec true` isn't supported"), "{notes:?}");
    }

    #[test]
    fn no_configuration_says_nothing() {
        assert_eq!(lookup(Path::new("/nowhere"), "n1", false).unwrap(), (Host::default(), vec![]));
    }

    #[test]
    fn tokens_are_expanded() {
        let expanded = |path: &str| expand(path, Path::new("/home/me"), "10.0.0.1", "core").display().to_string();
        assert_eq!(expanded("~/.ssh/%r@%h"), "/home/me/.ssh/core@10.0.0.1");
        assert_eq!((expanded("%d/x%%y").as_str(), expanded("/a%zb").as_str()), ("/home/me/x%y", "/a%zb"));
    }
}
