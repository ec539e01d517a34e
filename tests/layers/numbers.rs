//! Statistics of the tree, to compare versions: sizes of files and functions, wide lines, circles. Owns how each is
//! counted; must never check a rule, which is what `rules` does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::rules;
use crate::scan::Tree;

/// A few lines of text. `code` and `pages` are whole files, including tests, by their paths.
pub(crate) fn report(tree: &Tree, code: &BTreeMap<String, String>, pages: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let files: Vec<usize> = tree.sources.iter().map(|source| source.production_lines()).collect();
    let functions: Vec<usize> =
        tree.sources.iter().flat_map(|source| source.functions.iter().map(|function| function.lines)).collect();
    let production: usize = files.iter().sum();
    let all: usize = code.values().map(|text| text.lines().count()).sum();
    let over = |ceiling: usize| functions.iter().filter(|lines| **lines > ceiling).count();
    let wide = |texts: &BTreeMap<String, String>| rules::columns(texts, 120).len();
    let _ = writeln!(text, "production files      {:>6}, {production} lines", files.len());
    let _ = writeln!(text, "… median, p90, max    {}", spread(&files));
    let _ = writeln!(text, "lines of tests        {:>6}", all - production);
    let _ = writeln!(text, "functions             {:>6}", functions.len());
    let _ = writeln!(text, "… median, p90, max    {}", spread(&functions));
    let _ = writeln!(text, "… > 40, 60, 100 lines {:>6} {:>6} {:>6}", over(40), over(60), over(100));
    let _ = writeln!(text, "circles               {:>6}", rules::circles(tree).len());
    let _ = writeln!(text, "lines > 120 columns   {:>6} in code, {} on pages", wide(code), wide(pages));
    text
}

/// The median, the 90th percentile and the maximum.
fn spread(numbers: &[usize]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let at = |tenths: usize| numbers.get((numbers.len() * tenths / 10).min(numbers.len() - 1)).copied().unwrap_or(0);
    format!("{:>6} {:>6} {:>6}", at(5), at(9), at(10))
}
