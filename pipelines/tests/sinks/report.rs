//! `report.html`.

use tapetum::Summary;

use crate::fabricate;

#[test]
fn the_report_has_its_parts_and_names_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["report"]);
    fabricate::play(&["report"], dir.path(), &run, &fabricate::items(), &fabricate::summary());
    let page = fabricate::text(dir.path(), "report.html");
    for part in [
        "not for &lt;clinical&gt; use",
        "mean break-up time <strong>2.00 s</strong>",
        "2.00 ± 0.10 s",
        "&gt; 1.40 s",
        "0.50 s: first clear",
        "2.50 s: first broken",
        "3.90 s: greatest area, 1125 px",
        "dropped: stale",
        "failed: rings",
        "frame 13: tract/fp32 (tract 0.23.9, 71 nodes on tract) took over: the &quot;device&quot; was lost",
        "not ort:cuda: no library &quot;libcudart&quot;",
        &run.digest,
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(!page.contains("<script") && !page.contains("http"), "self-contained, nothing runs");
}

#[test]
fn a_run_without_frames_or_break_up_time_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = fabricate::run(&["report"]);
    run.stages.truncate(2);
    fabricate::play(&["report"], dir.path(), &run, &[], &Summary::default());
    let page = fabricate::text(dir.path(), "report.html");
    assert!(page.contains("0 frames") && !page.contains("Intervals") && !page.contains("NaN"));
}
