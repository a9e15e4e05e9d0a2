//! Every rule on its own example: it fires once, and the graph computes the same.

mod reference;
mod support;

use std::collections::BTreeSet;

use support::{folded, same_function};
use tapetum_models::fold::{RULES, fold_all};

#[test]
fn every_rule_fires_once_on_its_own_example_and_keeps_the_function() {
    for rule in RULES {
        for seed in 0..24 {
            let before = rule.example(seed);
            let (after, report) = folded(&before);
            let fired = report.counts().get(rule.name()).copied().unwrap_or(0);
            assert_eq!(
                fired,
                1,
                "{} seed {seed}: {:?}\nrefused {:?}",
                rule.name(),
                report.applied,
                report.refused
            );
            same_function(&before, &after, seed, rule.name());
        }
    }
}

#[test]
fn examples_are_determined_by_their_seed() {
    for rule in RULES {
        assert_eq!(rule.example(3), rule.example(3), "{}", rule.name());
        assert_ne!(rule.example(3), rule.example(4), "{}", rule.name());
    }
}

#[test]
fn folding_twice_changes_nothing() {
    for rule in RULES {
        let (mut once, _) = folded(&rule.example(1));
        let before = once.clone();
        let report = fold_all(&mut once).unwrap();
        assert!(report.applied.is_empty(), "{}: {:?}", rule.name(), report.applied);
        assert_eq!(once, before, "{}", rule.name());
    }
}

#[test]
fn names_are_unique_and_equations_are_one_line() {
    let names: BTreeSet<&str> = RULES.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), RULES.len());
    for rule in RULES {
        assert!(rule.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", rule.name());
        assert!(!rule.equation().is_empty() && !rule.equation().contains('\n'), "{}", rule.name());
    }
}
