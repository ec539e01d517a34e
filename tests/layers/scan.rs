//! Owns reading: parses the production code of a source tree.
//!
//! The module tree is walked from `src/lib.rs`, `src/core/lib.rs` and `src/bin/*.rs` along `mod` declarations. The two
//! libraries are one tree: the first re-exports the rooms of the second, so all of them are `crate::…`. Items with
//! `#[cfg(test)]` are left out, wherever they are; everything else is read: paths in code, in attributes and in the
//! tokens of macros, each with its line. It must never check a rule: that is done in `rules`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::names::{Names, Path, Place, Scope, join};

/// The files that the modules of a library begin with.
const LIBRARIES: [&str; 2] = ["src/lib.rs", "src/core/lib.rs"];

/// One file of production code.
pub(crate) struct Source {
    /// From the top of the tree: `src/core/model/name.rs`.
    pub(crate) path: String,
    /// `["crate", "model", "name"]`.
    pub(crate) module: Path,
    pub(crate) text: String,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) functions: Vec<Function>,
    /// Lines with `async` or `await`.
    pub(crate) asynchronous: Vec<usize>,
    /// The lines that `#[cfg(test)]` removes.
    tests: Vec<RangeInclusive<usize>>,
}

/// A path that the code names.
pub(crate) struct Mention {
    pub(crate) line: usize,
    /// With `use` declarations followed, see [`Names::absolute`].
    pub(crate) written: Path,
    /// With re-exports followed too, see [`Names::declared`].
    pub(crate) declared: Path,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Path,
    /// `println!`.
    Macro,
    /// `use path::*`.
    Glob,
    /// `pub use path`, with any visibility.
    ReExport,
}

pub(crate) struct Function {
    /// `Units::note`, or `note` outside of an `impl`.
    pub(crate) name: String,
    /// From the signature to the closing brace.
    pub(crate) lines: usize,
}

/// The production code of a tree.
pub(crate) struct Tree {
    pub(crate) sources: Vec<Source>,
    pub(crate) names: Names,
    /// Files without a `mod` declaration, not even one for tests.
    pub(crate) strays: Vec<String>,
}

impl Source {
    /// Lines that don't belong to tests, including comments.
    pub(crate) fn production_lines(&self) -> usize {
        let tests: usize = self.tests.iter().map(|range| range.end() - range.start() + 1).sum();
        self.text.lines().count() - tests
    }
}

impl Tree {
    /// From files, by their path. `foreign` are the crates that code may name.
    pub(crate) fn new(files: &BTreeMap<String, String>, foreign: &[String]) -> Self {
        let mut walk = Walk { files, parsed: Vec::new(), tests: Vec::new(), names: Names::default() };
        walk.names.foreign.extend(["std", "core", "alloc"].map(String::from));
        walk.names.foreign.extend(foreign.iter().cloned());
        for path in files.keys() {
            let binary = path.strip_prefix("src/bin/").and_then(|name| name.strip_suffix(".rs"));
            if LIBRARIES.contains(&path.as_str()) {
                walk.file(path, vec!["crate".into()]);
            } else if let Some(name) = binary {
                walk.file(path, vec![format!("bin {name}")]);
            }
        }
        let Walk { parsed, tests, names, .. } = walk;
        let sources: Vec<Source> = parsed.into_iter().map(|parsed| parsed.read(&names)).collect();
        let reached = |path: &&String| sources.iter().any(|s| s.path == **path) || tests.contains(path);
        let strays = files.keys().filter(|path| !reached(path)).cloned().collect();
        Self { sources, names, strays }
    }
}

/// The walk along `mod` declarations; the first of two passes, which collects what each module binds.
struct Walk<'a> {
    files: &'a BTreeMap<String, String>,
    parsed: Vec<Parsed>,
    /// Files that contain only tests.
    tests: Vec<String>,
    names: Names,
}

struct Parsed {
    path: String,
    module: Path,
    text: String,
    syntax: syn::File,
}

impl Walk<'_> {
    fn file(&mut self, path: &str, module: Path) {
        let Some(text) = self.files.get(path) else { panic!("{}: there is no {path}", module.join("::")) };
        let syntax = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}:{}: {e}", e.span().start().line));
        let items = syntax.items.clone();
        self.parsed.push(Parsed { path: path.into(), module: module.clone(), text: text.clone(), syntax });
        let is_library = LIBRARIES.contains(&path);
        let folder = path.trim_end_matches(if is_library { "/lib.rs" } else { ".rs" }).to_owned();
        self.module(module, &items, &folder);
    }

    fn module(&mut self, module: Path, items: &[syn::Item], folder: &str) {
        let mut scope = Scope::default();
        let mut inner = Vec::new();
        for item in items {
            let syn::Item::Mod(declared) = item else {
                if !is_test(attributes(item)) {
                    bind(&mut scope, item);
                }
                continue;
            };
            let name = declared.ident.to_string();
            let folder = format!("{folder}/{name}");
            assert!(
                !declared.attrs.iter().any(|a| a.path().is_ident("path")),
                "{folder}: a module is where it is named"
            );
            if is_test(&declared.attrs) {
                self.tests.extend(self.files.keys().filter(|f| is_within(f, &folder)).cloned());
                continue;
            }
            scope.items.insert(name.clone());
            inner.push((join(&module, &[name]), folder, declared));
        }
        self.names.modules.entry(module).or_default().extend(scope);
        for (path, folder, declared) in inner {
            match &declared.content {
                Some((_, items)) => self.module(path, items, &folder),
                None => self.file(&format!("{folder}.rs"), path),
            }
        }
    }
}

/// `folder.rs` and all in `folder/`.
fn is_within(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The names that an item adds to its scope.
fn bind(scope: &mut Scope, item: &syn::Item) {
    let name = match item {
        syn::Item::Use(item) => {
            for leaf in leaves(&item.tree) {
                match leaf.bound {
                    Bound::Name(name) => drop(scope.bound.insert(name, leaf.path)),
                    Bound::Glob => scope.globs.push(leaf.path),
                }
            }
            return;
        }
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return,
    };
    scope.items.insert(name.to_string());
}

/// One leaf of a `use` tree.
struct Leaf {
    path: Path,
    bound: Bound,
    line: usize,
}

enum Bound {
    Name(String),
    Glob,
}

fn leaves(tree: &syn::UseTree) -> Vec<Leaf> {
    fn walk(tree: &syn::UseTree, prefix: &[String], found: &mut Vec<Leaf>) {
        let mut leaf = |ident: &syn::Ident, name: String| {
            // `use a::{self}` binds `a`.
            let itself = ident == "self" && !prefix.is_empty();
            let path = if itself { prefix.to_vec() } else { join(prefix, &[ident.to_string()]) };
            let name = if itself && name == "self" { path.last().cloned().unwrap_or_default() } else { name };
            found.push(Leaf { path, bound: Bound::Name(name), line: ident.span().start().line });
        };
        match tree {
            syn::UseTree::Path(path) => walk(&path.tree, &join(prefix, &[path.ident.to_string()]), found),
            syn::UseTree::Name(name) => leaf(&name.ident, name.ident.to_string()),
            syn::UseTree::Rename(rename) => leaf(&rename.ident, rename.rename.to_string()),
            syn::UseTree::Glob(glob) => {
                let line = glob.span().start().line;
                found.push(Leaf { path: prefix.to_vec(), bound: Bound::Glob, line });
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, prefix, found)),
        }
    }
    let mut found = Vec::new();
    walk(tree, &[], &mut found);
    found
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]` and its like.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    fn needs_test(condition: &syn::Meta) -> bool {
        match condition {
            syn::Meta::Path(path) => path.is_ident("test"),
            syn::Meta::List(list) if list.path.is_ident("all") => {
                let all = syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated;
                list.parse_args_with(all).is_ok_and(|conditions| conditions.iter().any(needs_test))
            }
            _ => false,
        }
    }
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_marked = path.segments.last().is_some_and(|last| last.ident == "test");
        is_marked || path.is_ident("cfg") && attribute.parse_args().is_ok_and(|meta| needs_test(&meta))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::TraitAlias(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl Parsed {
    /// The second pass.
    fn read(self, names: &Names) -> Source {
        let Self { path, module, text, syntax } = self;
        let mut reader = Reader {
            names,
            module: module.clone(),
            blocks: Vec::new(),
            owner: None,
            mentions: Vec::new(),
            functions: Vec::new(),
            asynchronous: Vec::new(),
            tests: Vec::new(),
        };
        reader.visit_file(&syntax);
        let Reader { mentions, functions, asynchronous, tests, .. } = reader;
        Source { path, module, text, mentions, functions, asynchronous, tests }
    }
}

/// Collects the paths in one file. Tests are skipped.
struct Reader<'a> {
    names: &'a Names,
    module: Path,
    blocks: Vec<Scope>,
    /// The type of the enclosing `impl` or trait.
    owner: Option<String>,
    mentions: Vec<Mention>,
    functions: Vec<Function>,
    asynchronous: Vec<usize>,
    tests: Vec<RangeInclusive<usize>>,
}

impl Reader<'_> {
    fn mention(&mut self, path: &[String], line: usize, kind: Kind) {
        let place = Place { module: &self.module, blocks: &self.blocks };
        let written = match (self.names.absolute(&place, path), kind) {
            (Some(written), _) => written,
            // A macro of the prelude.
            (None, Kind::Macro) => path.to_vec(),
            (None, _) => return,
        };
        let declared = self.names.declared(&written);
        self.mentions.push(Mention { line, written, declared, kind });
    }

    /// A path in code. A single name is a variable, a local item, or bound by a `use`, which is collected itself.
    fn path(&mut self, path: &[String], line: usize, kind: Kind) {
        if path.len() > 1 || kind == Kind::Macro {
            self.mention(path, line, kind);
        }
    }

    fn passes_over(&mut self, attributes: &[syn::Attribute], whole: &impl Spanned) -> bool {
        let passed = is_test(attributes);
        if passed {
            let span = whole.span();
            self.tests.push(span.start().line..=span.end().line);
        }
        passed
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let name = match &self.owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let line = signature.span().start().line;
        let lines = block.span().end().line - line + 1;
        self.functions.push(Function { name, lines });
    }

    /// Paths in tokens that aren't parsed: the bodies of macros, attributes.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, sign: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == sign);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream(), &[]),
                TokenTree::Ident(ident) if !prefix.is_empty() || at == 0 || !is(at - 1, '.') => {
                    let line = ident.span().start().line;
                    if ident == "async" || ident == "await" {
                        self.asynchronous.push(line);
                    }
                    let mut path = join(prefix, &[ident.to_string()]);
                    while is(at + 1, ':') && is(at + 2, ':') {
                        match tokens.get(at + 3) {
                            Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                            Some(TokenTree::Group(group)) => {
                                self.tokens(group.stream(), &path);
                                at += 3;
                                break;
                            }
                            _ => break,
                        }
                        at += 3;
                    }
                    let kind = if is(at + 1, '!') && !is(at + 2, '=') { Kind::Macro } else { Kind::Path };
                    self.path(&path, line, kind);
                }
                TokenTree::Ident(ident) if ident == "await" => self.asynchronous.push(ident.span().start().line),
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !self.passes_over(attributes(item), item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            let blocks = std::mem::take(&mut self.blocks);
            visit::visit_item_mod(self, item);
            self.blocks = blocks;
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        for leaf in leaves(&item.tree) {
            let kind = match leaf.bound {
                _ if is_public => Kind::ReExport,
                Bound::Glob => Kind::Glob,
                Bound::Name(_) => Kind::Path,
            };
            self.mention(&leaf.path, leaf.line, kind);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let owner = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        let around = std::mem::replace(&mut self.owner, owner);
        visit::visit_item_impl(self, item);
        self.owner = around;
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let around = self.owner.replace(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.owner = around;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let around = self.owner.take();
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
        self.owner = around;
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[syn::Attribute] = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !self.passes_over(attributes, item) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        let attributes: &[syn::Attribute] = match item {
            syn::TraitItem::Const(item) => &item.attrs,
            syn::TraitItem::Fn(item) => &item.attrs,
            syn::TraitItem::Type(item) => &item.attrs,
            syn::TraitItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !self.passes_over(attributes, item) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !self.passes_over(&field.attrs, field) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !self.passes_over(&variant.attrs, variant) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !self.passes_over(&arm.attrs, arm) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_fn_arg(&mut self, argument: &'ast syn::FnArg) {
        let (syn::FnArg::Typed(syn::PatType { attrs, .. }) | syn::FnArg::Receiver(syn::Receiver { attrs, .. })) =
            argument;
        if !self.passes_over(attrs, argument) {
            visit::visit_fn_arg(self, argument);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !self.passes_over(&local.attrs, local) {
            visit::visit_local(self, local);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let mut scope = Scope::default();
        for statement in &block.stmts {
            if let syn::Stmt::Item(item @ syn::Item::Use(_)) = statement {
                bind(&mut scope, item);
            }
        }
        self.blocks.push(scope);
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments, path.span().start().line, Kind::Path);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let segments: Path = mac.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments, mac.span().start().line, Kind::Macro);
        self.tokens(mac.tokens.clone(), &[]);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let path = attribute.path();
        if path.is_ident("doc") || path.is_ident("cfg_attr") {
            return;
        }
        let line = attribute.span().start().line;
        assert!(
            !is_test(std::slice::from_ref(attribute)),
            "{:?}, line {line}: a test that isn't passed over",
            self.module
        );
        self.visit_path(path);
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(list.tokens.clone(), &[]),
            syn::Meta::NameValue(named) => self.visit_expr(&named.value),
            syn::Meta::Path(_) => {}
        }
    }

    /// `pub(in crate::api)` names a scope, and uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.asynchronous.extend(signature.asyncness.iter().map(|word| word.span().start().line));
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.asynchronous.push(block.async_token.span().start().line);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.asynchronous.extend(closure.asyncness.iter().map(|word| word.span().start().line));
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_await(&mut self, awaited: &'ast syn::ExprAwait) {
        self.asynchronous.push(awaited.await_token.span().start().line);
        visit::visit_expr_await(self, awaited);
    }
}
