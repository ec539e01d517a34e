//! Sets: which members a template with a count has, and how its count changes. Owns the numbers of members: the lowest
//! free one comes first, the highest one goes first. Pure; must never decide where a member runs, nor what a request
//! asks for.

use std::collections::BTreeSet;

use crate::model::placement::Replicas;

/// How a set gets the number of members that it should have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scale {
    /// The numbers of members to create, ascending.
    pub create: Vec<u32>,
    /// The numbers of members to destroy, descending.
    pub destroy: Vec<u32>,
}

/// How the members `have` become `count`. No number in `taken` is given to a new member.
#[must_use]
pub fn scale(have: &BTreeSet<u32>, taken: &BTreeSet<u32>, count: u32) -> Scale {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let free = (1..).filter(|number| !have.contains(number) && !taken.contains(number));
    Scale {
        create: free.take(count.saturating_sub(have.len())).collect(),
        destroy: have.iter().rev().take(have.len().saturating_sub(count)).copied().collect(),
    }
}

/// The count after the template's file was replaced: `count` was the one before, `before` and `after` are what the two
/// files say. Only a number that was edited counts, so that a deployment keeps what a command has asked for. A rider's
/// count is its lead's, whatever this says.
#[must_use]
pub fn replaced(count: Option<u32>, before: Option<&Replicas>, after: Option<&Replicas>) -> Option<u32> {
    if before == after { count } else { after.and_then(Replicas::number) }
}

/// How a rider with the members `have` gets those numbers that its lead has. What is in `taken` is neither created nor
/// destroyed.
#[must_use]
pub fn follow(have: &BTreeSet<u32>, taken: &BTreeSet<u32>, lead: &BTreeSet<u32>) -> Scale {
    let free = |number: &&u32| !taken.contains(number);
    Scale {
        create: lead.iter().filter(|number| !have.contains(number)).filter(free).copied().collect(),
        destroy: have.iter().rev().filter(|number| !lead.contains(number)).filter(free).copied().collect(),
    }
}

/// The count after members were destroyed and created by their names. There were `members`; they differ from `count` if
/// a change of the count was interrupted.
#[must_use]
pub fn by_name(count: u32, members: u32, destroyed: u32, created: u32) -> u32 {
    let left = members.saturating_sub(destroyed);
    // With more members than there should be, the first ones that are destroyed are those.
    let count = if members > count { count.min(left) } else { count.saturating_sub(destroyed) };
    count.max(if created > 0 { left + created } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[u32]) -> BTreeSet<u32> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn the_lowest_free_number_comes_and_the_highest_goes() {
        type Numbers = &'static [u32];
        let cases: [(Numbers, Numbers, u32, Numbers, Numbers); 8] = [
            (&[], &[], 0, &[], &[]),
            (&[], &[], 3, &[1, 2, 3], &[]),
            (&[1, 2, 3], &[], 3, &[], &[]),
            // Holes are filled first.
            (&[1, 3, 6], &[], 5, &[2, 4], &[]),
            (&[1, 3, 6], &[], 2, &[], &[6]),
            (&[2, 7, 9], &[], 0, &[], &[9, 7, 2]),
            // A member that is destroyed in the same batch isn't created again in it.
            (&[1, 3], &[2], 4, &[4, 5], &[]),
            // Numbers above the count are members too.
            (&[40], &[], 1, &[], &[]),
        ];
        for (have, taken, count, create, destroy) in cases {
            let expected = Scale { create: create.to_vec(), destroy: destroy.to_vec() };
            assert_eq!(scale(&set(have), &set(taken), count), expected, "{have:?} {count}");
        }
    }

    #[test]
    fn scaling_reaches_the_count_and_then_changes_nothing() {
        for bits in 0..256_u32 {
            let have: BTreeSet<u32> = (1..=8).filter(|number| bits & 1 << (number - 1) != 0).collect();
            for count in 0..12 {
                let Scale { create, destroy } = scale(&have, &BTreeSet::new(), count);
                assert!(create.is_empty() || destroy.is_empty());
                assert!(create.iter().all(|number| !have.contains(number)));
                let mut after = have.clone();
                after.extend(&create);
                assert!(destroy.iter().all(|number| after.remove(number)));
                assert_eq!(after.len(), count as usize);
                // Who stays has a lower number than who goes, and no hole is below a new member.
                assert!(destroy.iter().all(|gone| after.iter().all(|stays| stays < gone)));
                assert!(create.iter().all(|new| (1..*new).all(|number| after.contains(&number))));
                assert_eq!(scale(&after, &BTreeSet::new(), count), Scale::default());
            }
        }
    }

    #[test]
    fn only_a_number_that_was_edited_counts() {
        let cases = [
            // The count before, what the two files say, and the count after.
            (Some(3), Some(3), Some(3), Some(3)),
            (Some(5), Some(3), Some(3), Some(5)),
            (Some(3), Some(3), Some(4), Some(4)),
            (Some(5), Some(3), Some(4), Some(4)),
            // A file that never said it: a command has made it a set.
            (Some(5), None, None, Some(5)),
            (Some(5), None, Some(5), Some(5)),
            (Some(5), Some(3), None, None),
            (None, None, Some(2), Some(2)),
            (None, None, None, None),
        ];
        for (count, before, after, expected) in cases {
            let (before, after) = (before.map(Replicas::Number), after.map(Replicas::Number));
            assert_eq!(replaced(count, before.as_ref(), after.as_ref()), expected, "{count:?} {before:?} {after:?}");
        }
        // A rider that becomes a set of its own, or none.
        let lead = Replicas::Of("web@.service".parse().unwrap());
        for (before, after, expected) in [
            (Some(&lead), Some(&lead), Some(5)),
            (Some(&lead), Some(&Replicas::Number(2)), Some(2)),
            (Some(&lead), None, None),
        ] {
            assert_eq!(replaced(Some(5), before, after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_rider_has_the_numbers_of_its_lead() {
        for have in 0..32_u32 {
            for lead in 0..32_u32 {
                let numbers = |bits: u32| (1..=5).filter(|n| bits & 1 << (n - 1) != 0).collect::<BTreeSet<u32>>();
                let (have, lead) = (numbers(have), numbers(lead));
                let Scale { create, destroy } = follow(&have, &BTreeSet::new(), &lead);
                let mut after = have.clone();
                assert!(create.iter().all(|number| after.insert(*number)));
                assert!(destroy.iter().all(|number| after.remove(number)));
                assert_eq!(after, lead);
                assert_eq!(follow(&after, &BTreeSet::new(), &lead), Scale::default());
            }
        }
        let kept = follow(&set(&[1, 4, 5]), &set(&[2, 4]), &set(&[1, 2, 3]));
        assert_eq!(kept, Scale { create: vec![3], destroy: vec![5] });
    }

    #[test]
    fn members_that_are_named_change_the_count() {
        let cases = [
            // The count, the members, how many of them are destroyed and created, and the count after.
            (3, 3, 1, 0, 2),
            (3, 3, 3, 0, 0),
            (3, 3, 0, 1, 4),
            (3, 3, 1, 1, 3),
            // Not all of them are created yet: the rest of them is still wanted.
            (200, 127, 1, 0, 199),
            (200, 127, 0, 1, 200),
            // Not all of them are destroyed yet.
            (100, 240, 1, 0, 100),
            (100, 240, 140, 0, 100),
            (100, 240, 141, 0, 99),
            (100, 240, 0, 1, 241),
        ];
        for (count, members, destroyed, created, expected) in cases {
            assert_eq!(by_name(count, members, destroyed, created), expected, "{count} {members}");
        }
    }
}
