//! How many members a set has, against what its file says. Owns these words; requests nothing.

use crate::cli::output::people::count;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::placement::{Constraints, Replicas};

/// `Replicas=` in the text of a unit file.
pub(super) fn replicas_in(text: &str) -> Option<Replicas> {
    Constraints::parse(&UnitFile::parse(text.as_bytes()).ok()?).ok()?.replicas
}

/// The number in the text of a unit file.
pub(super) fn number_in(text: &str) -> Option<u32> {
    replicas_in(text)?.number()
}

/// The message about a set whose count was changed by a command, so that its file has another number.
pub(super) fn remark(name: &UnitName, replicas: Option<u32>, file: Option<u32>) -> Option<String> {
    let (wanted, file) = (replicas?, file?);
    (wanted != file).then(|| format!("{name}: {}, its file says Replicas={file}", instances(wanted)))
}

/// What a new file with the number `file` does to a set that had `before` members and then has `after`, as the end of a
/// sentence about it.
pub(super) fn effect(before: Option<u32>, after: Option<u32>, file: Option<u32>) -> String {
    match (before, after, file) {
        (Some(before), Some(after), _) if before != after => format!("; {before} -> {}", instances(after)),
        (Some(_), Some(after), Some(file)) if file != after => {
            format!("; it keeps {}, although the file says Replicas={file}", instances(after))
        }
        (None, Some(after), _) => format!("; it becomes a set of {}", instances(after)),
        (Some(_), None, _) => "; it is no set any more, and its instances stay".into(),
        _ => String::new(),
    }
}

/// `3 instances`.
pub(super) fn instances(number: u32) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "instance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_not_the_files_is_said() {
        let text = |replicas: &str| format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\nReplicas={replicas}\n");
        let name = "web@.service".parse().unwrap();
        for (replicas, file, expected) in [
            (Some(5), text("3"), Some("web@.service: 5 instances, its file says Replicas=3")),
            (Some(3), text("3"), None),
            (Some(3), text("web@.service"), None),
            (Some(3), "[Service]\nExecStart=/bin/true\n".into(), None),
            (None, text("3"), None),
        ] {
            assert_eq!(remark(&name, replicas, number_in(&file)).as_deref(), expected, "{replicas:?} {file}");
        }
    }

    #[test]
    fn what_a_file_does_to_the_count_is_said() {
        for (before, after, file, expected) in [
            (Some(3), Some(3), Some(3), ""),
            (Some(3), Some(4), Some(4), "; 3 -> 4 instances"),
            (Some(5), Some(5), Some(3), "; it keeps 5 instances, although the file says Replicas=3"),
            (Some(5), Some(5), None, ""),
            (None, Some(1), Some(1), "; it becomes a set of 1 instance"),
            (Some(5), None, None, "; it is no set any more, and its instances stay"),
            (None, None, None, ""),
        ] {
            assert_eq!(effect(before, after, file), expected, "{before:?} {after:?} {file:?}");
        }
    }
}
