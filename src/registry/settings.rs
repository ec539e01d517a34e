//! Reads and changes the settings of the whole cluster: the `cluster` family. Owns the transaction, all changes or
//! none; must never decide what a setting does.

use crate::model::settings::{Setting, Settings};
use crate::store::{Error, Store, Txn};

use super::keys::Key;
use super::reader::Reader;
use super::records::{Family as _, settings};
use super::{MAX_ATTEMPTS, committed, point, replace};

/// A change: the setting, and its value or (`None`) that it is set no longer.
pub type Wish = (String, Option<String>);

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such setting, or it can't have this value.
    Invalid(String),
    /// Others change the same all the time.
    Contended,
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Lost(Error),
}

/// What is set, and the settings that can't be read are as if nothing were set.
///
/// # Errors
/// As [`Store::range`].
pub async fn read<S: Store>(reader: &Reader<S>) -> Result<Settings, Error> {
    let (_, found) = point(reader.store(), &Key::Cluster.to_string(), None).await?;
    let read = |kv| settings::Records::read(kv).inspect_err(|corrupt| reader.warn(corrupt)).ok();
    Ok(found.as_ref().and_then(read).unwrap_or_default())
}

/// Make all of these changes, or none. Returns the settings before and after. A record that can't be read is replaced.
///
/// # Errors
/// See [`Refusal`].
pub async fn change<S: Store>(reader: &Reader<S>, wishes: &[Wish]) -> Result<(Settings, Settings), Refusal> {
    let key = Key::Cluster;
    for attempt in 1..=MAX_ATTEMPTS {
        let (_, stored) = point(reader.store(), &key.to_string(), None).await.map_err(Refusal::Store)?;
        let read = |kv| settings::Records::read(kv).inspect_err(|corrupt| reader.warn(corrupt)).ok();
        let known = stored.as_ref().and_then(read);
        let before = known.clone().unwrap_or_default();
        let mut after = before.clone();
        for (name, value) in wishes {
            let setting = Setting::named(name).map_err(Refusal::Invalid)?;
            setting.change(&mut after, value.as_deref()).map_err(Refusal::Invalid)?;
        }
        if after == before && known.is_some() == stored.is_some() {
            return Ok((before, after));
        }
        let mut txn = Txn { guards: Vec::new(), ops: Vec::new() };
        replace(&mut txn, &key, stored.as_ref(), Some(&after).filter(|after| !after.is_empty()));
        if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
            return Ok((before, after));
        }
    }
    Err(Refusal::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Op;
    use crate::store::embedded::Embedded;

    fn wish(name: &str, value: Option<&str>) -> Wish {
        (name.into(), value.map(Into::into))
    }

    async fn stored(reader: &Reader<Embedded>) -> Option<String> {
        let (_, found) = point(reader.store(), "cluster", None).await.unwrap();
        found.map(|kv| String::from_utf8(kv.value).unwrap())
    }

    #[tokio::test]
    async fn all_changes_are_made_or_none() {
        let reader = Reader::new(Embedded::in_memory());
        let pack = wish("placement", Some("pack"));
        let refused = change(&reader, &[pack.clone(), wish("overcommit-cpu", Some("many"))]).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        assert_eq!(stored(&reader).await, None);
        let (before, after) = change(&reader, &[pack.clone(), wish("overcommit-cpu", Some("200%"))]).await.unwrap();
        assert!(before.is_empty() && after.overcommit_cpu() == 200);
        assert_eq!(stored(&reader).await.as_deref(), Some(r#"{"overcommit_cpu":200,"placement":"pack"}"#));
        assert_eq!(change(&reader, &[pack]).await, Ok((after.clone(), after.clone())), "nothing is new");
        change(&reader, &[wish("placement", None), wish("overcommit-cpu", None)]).await.unwrap();
        assert_eq!((stored(&reader).await, read(&reader).await), (None, Ok(Settings::default())));
    }

    /// A person can repair it by setting something again.
    #[tokio::test]
    async fn a_record_that_can_not_be_read_is_replaced() {
        for (wished, expected) in [(Some("pack"), Some(r#"{"placement":"pack"}"#)), (None, None)] {
            let reader = Reader::new(Embedded::in_memory());
            let op = Op::Put { key: "cluster".into(), value: "{".into(), lease: None };
            reader.store().commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
            assert_eq!(read(&reader).await, Ok(Settings::default()));
            change(&reader, &[wish("placement", wished)]).await.unwrap();
            assert_eq!(stored(&reader).await.as_deref(), expected);
        }
    }
}
