//! Owns name resolution: from a path as it is written in one place to the full path of what it means.
//!
//! A name is looked up as rustc does it: the `use` declarations of the enclosing blocks, then what the module binds,
//! declares or gets from a glob, then the foreign crates. Types of the prelude, generics and variables resolve to
//! nothing. It must never read a file: `scan` collects the scopes.

use std::collections::{BTreeMap, BTreeSet};

/// The segments of a path: `crate::…` for our code, in both libraries, or else the name of a foreign crate first.
pub(crate) type Path = Vec<String>;

/// The most substitutions for one path. Real chains of re-exports have two or three.
const MAX_LINKS: usize = 16;

/// The names that one module, or one block, binds.
#[derive(Default)]
pub(crate) struct Scope {
    /// From `use`: the name, and the path behind it as written there.
    pub(crate) bound: BTreeMap<String, Path>,
    /// `use path::*`, as written.
    pub(crate) globs: Vec<Path>,
    /// Types, functions, constants and modules declared here.
    pub(crate) items: BTreeSet<String>,
}

impl Scope {
    /// The other half of a module: both libraries begin as `crate`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.bound.extend(other.bound);
        self.globs.extend(other.globs);
        self.items.extend(other.items);
    }
}

/// All modules of a tree, and the foreign crates that it may name.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) modules: BTreeMap<Path, Scope>,
    pub(crate) foreign: BTreeSet<String>,
}

/// Where a path is written: its module, and the blocks around it that have `use` declarations, the innermost last.
pub(crate) struct Place<'a> {
    pub(crate) module: &'a Path,
    pub(crate) blocks: &'a [Scope],
}

impl Names {
    /// The full path as written: `use` declarations at `place` are followed, re-exports elsewhere are not.
    pub(crate) fn absolute(&self, place: &Place, path: &[String]) -> Option<Path> {
        self.lookup(place, path, &mut Vec::new())
    }

    /// The full path of the item: re-exports of our modules are followed to its declaration.
    pub(crate) fn declared(&self, path: &[String]) -> Path {
        let mut path = path.to_vec();
        for _ in 0..MAX_LINKS {
            let Some(next) = self.behind_re_export(&path) else { break };
            path = next;
        }
        path
    }

    /// The module that declares the item of `path`.
    pub(crate) fn module_of(&self, path: &[String]) -> Option<&Path> {
        let known = |length: &usize| self.modules.contains_key(&path[..*length]);
        let length = (1..=path.len()).rev().find(known)?;
        self.modules.get_key_value(&path[..length]).map(|(module, _)| module)
    }

    /// `tried` holds the names and globs that are being followed: `use clap;` doesn't mean itself.
    fn lookup(&self, place: &Place, path: &[String], tried: &mut Vec<String>) -> Option<Path> {
        let (head, rest) = path.split_first()?;
        match head.as_str() {
            "crate" => return Some(path.to_vec()),
            "flotilla" | "flotilla_core" => return Some(join(&["crate".into()], rest)),
            "self" => return self.lookup_from(place.module, rest),
            "super" => return self.lookup_from(&place.module[..place.module.len().saturating_sub(1)], rest),
            _ => {}
        }
        if tried.len() > MAX_LINKS {
            return None;
        }
        let scopes = place.blocks.iter().rev().chain(self.modules.get(place.module));
        for scope in scopes.clone() {
            if let Some(target) = scope.bound.get(head).filter(|_| !tried.contains(head)) {
                tried.push(head.clone());
                let target = self.lookup(place, target, tried)?;
                return Some(join(&target, rest));
            }
        }
        if self.modules.get(place.module).is_some_and(|scope| scope.items.contains(head)) {
            return Some(join(place.module, path));
        }
        for glob in scopes.flat_map(|scope| &scope.globs) {
            // A name that no `use` can bind.
            let mark = format!("{}::*", glob.join("::"));
            if tried.contains(&mark) {
                continue;
            }
            let mut tried = join(tried, &[mark]);
            let target = self.lookup(place, glob, &mut tried);
            if let Some(found) = target.and_then(|module| self.member(&module, head, &mut Vec::new())) {
                return Some(join(&found, rest));
            }
        }
        self.foreign.contains(head).then(|| path.to_vec())
    }

    /// The path after `self::` and `super::`.
    fn lookup_from(&self, module: &[String], rest: &[String]) -> Option<Path> {
        match rest.first().map(String::as_str) {
            Some("super") => self.lookup_from(&module[..module.len().saturating_sub(1)], &rest[1..]),
            _ => Some(join(module, rest)),
        }
    }

    /// The item `name` of `module`: declared there, bound there, or imported by a glob.
    fn member(&self, module: &[String], name: &str, seen: &mut Vec<Path>) -> Option<Path> {
        if seen.iter().any(|known| known == module) {
            return None;
        }
        seen.push(module.to_vec());
        let (module, scope) = self.modules.get_key_value(module)?;
        if scope.items.contains(name) {
            return Some(join(module, &[name.into()]));
        }
        let place = Place { module, blocks: &[] };
        if let Some(target) = scope.bound.get(name) {
            return self.lookup(&place, target, &mut vec![name.into()]);
        }
        let targets = scope.globs.iter().filter_map(|glob| self.lookup(&place, glob, &mut Vec::new()));
        targets.filter_map(|target| self.member(&target, name, seen)).next()
    }

    /// One substitution: `path` contains a name that its module only re-exports.
    fn behind_re_export(&self, path: &[String]) -> Option<Path> {
        let module = self.module_of(path)?;
        let name = path.get(module.len())?;
        let found = self.member(module, name, &mut Vec::new())?;
        let next = join(&found, &path[module.len() + 1..]);
        (next != path).then_some(next)
    }
}

pub(crate) fn join(head: &[String], tail: &[String]) -> Path {
    head.iter().chain(tail).cloned().collect()
}
