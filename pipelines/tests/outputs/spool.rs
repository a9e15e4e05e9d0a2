//! The spool, by way of a webhook whose receiver is not there.

use std::{fs, time::Duration};

use proptest::prelude::*;
use tapetum::site::event::Ids;

use super::{offer, open};

/// Nobody listens on port 1.
fn nobody(spool: &str) -> String {
    format!("[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nspool = {{ {spool} }}\n")
}

#[test]
fn a_corrupt_spool_is_moved_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let ids = Ids::new().unwrap();
    let file = dir.path().join("state/webhook.spool.sqlite");
    let outputs = open(&nobody(""), dir.path());
    offer(&*outputs[0], &ids, 5);
    assert!(outputs[0].flush(Duration::from_secs(10)));
    outputs[0].stop(Duration::from_secs(2));
    drop(outputs);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(&file, bytes).unwrap();

    let outputs = open(&nobody(""), dir.path());
    offer(&*outputs[0], &ids, 3);
    assert!(outputs[0].flush(Duration::from_secs(10)));
    assert_eq!(outputs[0].status().spooled, 3);
    assert!(file.with_extension("sqlite.corrupt").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// However many come, over however many restarts: never more than the bound, and every one is in the spool or counted.
    #[test]
    fn it_stays_within_its_bound_and_counts_what_falls_out(bound in 1_usize..60, bursts in prop::collection::vec(0_usize..40, 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let ids = Ids::new().unwrap();
        let mut there = 0;
        for burst in bursts {
            let outputs = open(&nobody(&format!("events = {bound}")), dir.path());
            offer(&*outputs[0], &ids, burst);
            prop_assert!(outputs[0].flush(Duration::from_secs(10)));
            let status = outputs[0].status();
            prop_assert_eq!(status.spooled as usize, (there + burst).min(bound));
            let dropped = status.dropped.get("spool full").copied().unwrap_or(0) as usize;
            prop_assert_eq!(dropped, (there + burst).saturating_sub(bound));
            there = status.spooled as usize;
            outputs[0].stop(Duration::from_secs(2));
        }
    }
}
