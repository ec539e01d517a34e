//! Settings of the whole cluster. Owns the table of them: a setting is a field of [`Settings`] and a row of [`ALL`].
//! What a setting does, the module that heeds it decides.

use serde::{Deserialize, Serialize};

use super::resources::percent;

/// What was set (`cluster`; written by the API). What wasn't has its default. Later versions may add fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// `overcommit-memory`, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit_memory: Option<u32>,
    /// `overcommit-cpu`, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit_cpu: Option<u32>,
    /// `placement`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Order>,
}

/// In which order the hosts are tried that fit a unit with `Memory=` or `CPU=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The one first of which the least is taken.
    #[default]
    Spread,
    /// The one first of which the most is taken.
    Pack,
}

/// What is taken of a host may be so much of what it has, in percent, unless it is set otherwise. Not more than it has:
/// what units declare is kept from others then, and whoever wants more units than that says so.
const OVERCOMMIT: u32 = 100;

/// The largest percentage.
const MOST: u64 = 10_000;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What it can be.
    pub values: &'static str,
    /// What it is if it isn't set.
    pub default: &'static str,
    /// What it may be, to complete it. A setting that can be anything has none.
    pub words: &'static [&'static str],
    /// What was set, as it is written; `None` if nothing was.
    pub get: fn(&Settings) -> Option<String>,
    /// Set it, or (`None`) set it no longer. `None` if it can't be that.
    pub put: fn(&mut Settings, Option<&str>) -> Option<()>,
}

/// All settings, by name.
pub const ALL: [Setting; 3] = [
    Setting {
        name: "overcommit-cpu",
        help: "how much of the CPU of a host units may take with CPU=",
        values: "a percentage of what it has, from 1% to 10000%",
        default: "100%",
        words: &[],
        get: |settings| settings.overcommit_cpu.map(in_percent),
        put: |settings, text| set(&mut settings.overcommit_cpu, text, share),
    },
    Setting {
        name: "overcommit-memory",
        help: "how much of the memory of a host units may take with Memory=",
        values: "a percentage of what it has, from 1% to 10000%",
        default: "100%",
        words: &[],
        get: |settings| settings.overcommit_memory.map(in_percent),
        put: |settings, text| set(&mut settings.overcommit_memory, text, share),
    },
    Setting {
        name: "placement",
        help: "whether units with Memory= or CPU= go to the host of which the least is taken, or the most",
        values: "spread or pack",
        default: "spread",
        words: &["spread", "pack"],
        get: |settings| settings.placement.map(|order| order.as_str().to_owned()),
        put: |settings, text| set(&mut settings.placement, text, Order::parse),
    },
];

impl Setting {
    /// The setting of this name.
    ///
    /// # Errors
    /// That there is none.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        ALL.iter().find(|setting| setting.name == name).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|setting| setting.name).collect();
            format!("there is no setting `{name}`; there are {}", known.join(", "))
        })
    }

    /// Set it, or (`None`) set it no longer.
    ///
    /// # Errors
    /// What it can be.
    pub fn change(&self, settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
        let told = || format!("`{}={}`: must be {}", self.name, value.unwrap_or_default(), self.values);
        (self.put)(settings, value).ok_or_else(told)
    }

    /// What it is: what was set, or its default.
    #[must_use]
    pub fn value(&self, settings: &Settings) -> String {
        (self.get)(settings).unwrap_or_else(|| self.default.to_owned())
    }
}

impl Settings {
    /// Whether nothing was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `overcommit-memory`, in percent.
    #[must_use]
    pub fn overcommit_memory(&self) -> u32 {
        self.overcommit_memory.unwrap_or(OVERCOMMIT)
    }

    /// `overcommit-cpu`, in percent.
    #[must_use]
    pub fn overcommit_cpu(&self) -> u32 {
        self.overcommit_cpu.unwrap_or(OVERCOMMIT)
    }

    /// `placement`.
    #[must_use]
    pub fn order(&self) -> Order {
        self.placement.unwrap_or_default()
    }
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Pack => "pack",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Spread, Self::Pack].into_iter().find(|order| order.as_str() == text)
    }
}

/// Change one field.
fn set<T>(field: &mut Option<T>, text: Option<&str>, parse: fn(&str) -> Option<T>) -> Option<()> {
    *field = match text {
        Some(text) => Some(parse(text)?),
        None => None,
    };
    Some(())
}

fn in_percent(number: u32) -> String {
    format!("{number}%")
}

fn share(text: &str) -> Option<u32> {
    percent(text).filter(|share| (1..=MOST).contains(share) && !text.contains('.')).and_then(|it| it.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(settings: &mut Settings, name: &str, value: Option<&str>) -> Result<(), String> {
        Setting::named(name)?.change(settings, value)
    }

    #[test]
    fn what_is_set_is_read_back_and_unset_again() {
        let mut settings = Settings::default();
        for (name, value) in [("overcommit-memory", "150%"), ("overcommit-cpu", "10000%"), ("placement", "pack")] {
            let setting = Setting::named(name).unwrap();
            assert_eq!((setting.get)(&settings), None);
            change(&mut settings, name, Some(value)).unwrap();
            assert_eq!(setting.value(&settings), value);
        }
        assert_eq!((settings.overcommit_memory(), settings.overcommit_cpu()), (150, 10_000));
        assert_eq!(settings.order(), Order::Pack);
        for setting in &ALL {
            setting.change(&mut settings, None).unwrap();
        }
        assert!(settings.is_empty());
    }

    /// The row says the same as the value that is heeded.
    #[test]
    fn a_default_is_what_it_is_when_it_is_set() {
        for setting in &ALL {
            let mut settings = Settings::default();
            assert_eq!(setting.value(&settings), setting.default);
            setting.change(&mut settings, Some(setting.default)).unwrap();
            assert_eq!((setting.get)(&settings).as_deref(), Some(setting.default));
            let plain = Settings::default();
            let heeded = |it: &Settings| (it.overcommit_memory(), it.overcommit_cpu(), it.order());
            assert_eq!(heeded(&settings), heeded(&plain), "{}", setting.name);
            assert!(setting.words.is_empty() || setting.words.contains(&setting.default));
        }
        assert!(ALL.windows(2).all(|rows| rows[0].name < rows[1].name));
    }

    #[test]
    fn what_a_setting_can_not_be_changes_nothing() {
        let mut settings = Settings::default();
        for bad in ["0%", "10001%", "1.5%", "100", "", "%"] {
            let told = change(&mut settings, "overcommit-cpu", Some(bad)).unwrap_err();
            let must = "must be a percentage of what it has, from 1% to 10000%";
            assert_eq!(told, format!("`overcommit-cpu={bad}`: {must}"));
        }
        let told = change(&mut settings, "placement", Some("random")).unwrap_err();
        assert_eq!(told, "`placement=random`: must be spread or pack");
        let known = "there are overcommit-cpu, overcommit-memory, placement";
        assert_eq!(change(&mut settings, "x", None).unwrap_err(), format!("there is no setting `x`; {known}"));
        assert!(settings.is_empty());
    }
}
