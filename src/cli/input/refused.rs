//! Why a command line can't be parsed: clap's error → our lines, in the same words and form as all other errors. Owns
//! the wording; prints nothing.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::words;
use crate::cli::error::Line;

/// The lines about `error`. `typed` is the command line without the program's name, in clap's spelling.
pub(in crate::cli) fn lines(command: &clap::Command, error: &clap::Error, typed: &[String]) -> Vec<Line> {
    let verb = typed.first().filter(|word| command.find_subcommand(word).is_some());
    let help =
        Line::hint(format!("`fleetctl help{}` lists the options", verb.map_or(String::new(), |v| format!(" {v}"))));
    let arg = option(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::InvalidSubcommand => unknown(command, error, typed),
        ErrorKind::UnknownArgument if arg.starts_with('-') => {
            let near = option(error, ContextKind::SuggestedArg);
            let hint = if near.is_empty() { help } else { Line::hint(format!("did you mean `{near}`?")) };
            vec![format!("no option `{arg}`").into(), hint]
        }
        ErrorKind::UnknownArgument => vec![format!("one argument too many: `{arg}`").into(), help],
        ErrorKind::InvalidValue if value.is_empty() => vec![format!("`{arg}` needs a value").into(), help],
        ErrorKind::InvalidValue => {
            vec![
                format!("`{arg} {value}`: it must be one of {}", list(error, ContextKind::ValidValue).join(", "))
                    .into(),
                help,
            ]
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map_or_else(|| "it can't be understood".into(), ToString::to_string);
            vec![format!("`{arg} {value}`: {why}").into(), help]
        }
        ErrorKind::TooManyValues => vec![format!("`{arg}` takes no value `{value}`").into(), help],
        ErrorKind::MissingRequiredArgument => {
            let missing = list(error, ContextKind::InvalidArg);
            if missing.iter().any(|arg| arg.starts_with("<UNIT>")) {
                return vec![Line::from("No units given"), Line::hint("name at least one unit, such as web.service")];
            }
            let missing: Vec<String> = missing.iter().map(|arg| arg.replace(['<', '>'], "")).collect();
            vec![format!("missing: {}", missing.join(", ")).into(), help]
        }
        ErrorKind::ArgumentConflict => {
            let prior = list(error, ContextKind::PriorArg);
            let prior = prior.first().map_or("itself", |arg| first_word(arg));
            vec![format!("`{arg}` can't be used together with `{prior}`").into(), help]
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            vec![first.trim_start_matches("error: ").into(), help]
        }
    }
}

fn unknown(command: &clap::Command, error: &clap::Error, typed: &[String]) -> Vec<Line> {
    let word = text(error, ContextKind::InvalidSubcommand);
    let at = typed.iter().position(|arg| *arg == word).map_or(typed.len(), |at| at + 1);
    words::unknown(command, &word, &typed[at..])
}

/// The option of a value such as `--output <FORMAT>`.
fn option(error: &clap::Error, kind: ContextKind) -> String {
    list(error, kind).first().map(|arg| first_word(arg).to_owned()).unwrap_or_default()
}

fn first_word(text: &str) -> &str {
    text.split([' ', '=', '[']).next().unwrap_or(text)
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    list(error, kind).join(" ")
}

fn list(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_one_sentence_in_our_words() {
        let command = crate::cli::args::command();
        for (line, first) in [
            ("list-units --bogus", "no option `--bogus`"),
            ("list-units --ful", "no option `--ful`"),
            ("version x", "one argument too many: `x`"),
            ("list-units --output yaml", "`--output yaml`: it must be one of text, json"),
            ("list-units --output", "`--output` needs a value"),
            ("start a --block-attempts many", "`--block-attempts many`: it must be a whole number"),
            ("list-units --request-timeout 0", "`--request-timeout 0`: it must be more than 0 and at most a day"),
            ("list-units --ssh-port x", "`--ssh-port x`: it must be a port, 1 to 65535"),
            ("list-units --no-legend=maybe", "`--no-legend` takes no value `maybe`"),
            ("import", "missing: --from URL"),
            ("start", "No units given"),
            ("submit --instances a", "missing: --replace"),
            ("frobnicate", "no command `frobnicate`"),
            ("exec web ls", "no command `exec`: `fleetctl ssh web ls` goes there"),
        ] {
            let words = std::iter::once("fleetctl").chain(line.split_whitespace());
            let error = command.clone().try_get_matches_from(words).unwrap_err();
            let typed: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let lines = lines(&command, &error, &typed);
            assert_eq!(lines[0], first, "{line}");
            assert!(lines[1..].iter().all(|line| matches!(line, Line::Hint(_))), "{lines:?}");
            assert!(!format!("{lines:?}").contains("tip:") && !format!("{lines:?}").contains("error:"), "{lines:?}");
        }
    }
}
