//! What `verify` finds in unit files: its form for people and for editors, and how the findings of several sources are
//! merged. Values only.

use std::collections::BTreeSet;

use serde::Serialize;

use super::check::Remark;
use crate::cli::error::problem_line;

/// Whether something must be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Severity {
    /// The unit can't be submitted, loaded or placed as the file is, or a part of the file has no effect.
    Error,
    /// Probably not what was meant, or dependent on the host.
    Warning,
}

/// Who found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Source {
    /// This program.
    Fleetctl,
    /// `systemd-analyze verify`.
    Systemd,
    /// The cluster, about its hosts.
    Cluster,
}

/// One finding in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    /// The file, as it was named.
    pub(in crate::cli) file: String,
    /// The line, from 1; `None` if it concerns the whole file.
    pub(in crate::cli) line: Option<usize>,
    /// The column where the text of that line begins, from 1, in characters.
    pub(in crate::cli) column: Option<usize>,
    pub(in crate::cli) severity: Severity,
    pub(in crate::cli) message: String,
    pub(in crate::cli) source: Source,
}

impl Finding {
    /// A finding without a column, see [`locate`].
    pub(in crate::cli) fn new(file: &str, severity: Severity, source: Source, remark: Remark) -> Self {
        Self { file: file.into(), line: remark.line, column: None, severity, message: remark.what, source }
    }

    /// `web.service:3: warning: what is wrong (systemd)`.
    pub(in crate::cli) fn text(&self) -> String {
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        let source = match self.source {
            Source::Fleetctl => "",
            Source::Systemd => " (systemd)",
            Source::Cluster => " (cluster)",
        };
        problem_line(&self.file, self.line, &format!("{severity}{}{source}", self.message))
    }
}

/// Add the columns of findings in the file `label` with this text.
pub(in crate::cli) fn locate(findings: &mut [Finding], label: &str, text: &str) {
    for finding in findings.iter_mut().filter(|finding| finding.file == label) {
        let line = finding.line.and_then(|line| text.lines().nth(line - 1));
        finding.column = line.map(|line| line.chars().take_while(|c| c.is_whitespace()).count() + 1);
    }
}

/// All findings in the order of `files`, then of lines. What systemd says of a line about which this program said
/// something is the same finding in other words.
pub(in crate::cli) fn merged(mut findings: Vec<Finding>, files: &[String]) -> Vec<Finding> {
    let ours: BTreeSet<(String, usize)> = findings
        .iter()
        .filter(|finding| finding.source == Source::Fleetctl)
        .filter_map(|finding| Some((finding.file.clone(), finding.line?)))
        .collect();
    let said = |finding: &Finding| finding.line.is_some_and(|line| ours.contains(&(finding.file.clone(), line)));
    findings.retain(|finding| finding.source != Source::Systemd || !said(finding));
    let place = |finding: &Finding| files.iter().position(|file| *file == finding.file);
    findings.sort_by_key(|finding| (place(finding), finding.line.is_none(), finding.line, finding.severity));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(file: &str, line: Option<usize>, source: Source) -> Finding {
        Finding::new(file, Severity::Error, source, Remark { line, what: "odd".into() })
    }

    #[test]
    fn a_line_is_named_once_and_in_order() {
        let all = vec![
            finding("b.service", Some(1), Source::Systemd),
            finding("a.service", None, Source::Cluster),
            finding("a.service", Some(9), Source::Systemd),
            finding("a.service", Some(2), Source::Systemd),
            finding("a.service", Some(2), Source::Fleetctl),
        ];
        let texts: Vec<String> =
            merged(all, &["a.service".into(), "b.service".into()]).iter().map(Finding::text).collect();
        assert_eq!(
            texts,
            [
                "a.service:2: odd",
                "a.service:9: odd (systemd)",
                "a.service: odd (cluster)",
                "b.service:1: odd (systemd)"
            ]
        );
    }

    #[test]
    fn editors_are_told_where_the_text_of_a_line_begins() {
        let mut all = vec![finding("a", Some(2), Source::Fleetctl), finding("a", None, Source::Fleetctl)];
        all.push(finding("a", Some(7), Source::Systemd));
        locate(&mut all, "a", "[Unit]\n\t  x\n");
        assert_eq!(all.iter().map(|finding| finding.column).collect::<Vec<_>>(), [Some(4), None, None]);
        assert_eq!(
            serde_json::to_string(&all[0]).unwrap(),
            r#"{"file":"a","line":2,"column":4,"severity":"error","message":"odd","source":"fleetctl"}"#
        );
    }
}
