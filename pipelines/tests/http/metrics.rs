//! `/metrics`: read line by line, and by Prometheus' own tool where it is there.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use tapetum_parts::there;

use super::{made::Made, wire::get};

/// Series with their values; labels in the order of the alphabet, as the two formats order them differently. None of ours has a
/// comma in a value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let before = found.insert(sorted(name), value.parse().unwrap());
        assert_eq!(before, None, "{name} is told once");
    }
    found
}

fn sorted(name: &str) -> String {
    let Some((family, labels)) = name.split_once('{') else { return name.to_owned() };
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    format!("{family}{{{}}}", labels.join(","))
}

#[test]
fn every_figure_of_the_status_is_there() {
    let (_serving, address) = Made::new().serve();
    for accept in ["*/*", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"] {
        let answer = get(address, "/metrics", &[&format!("Accept: {accept}")]);
        let text = answer.text();
        assert_eq!(
            text.ends_with("# EOF\n"),
            accept.starts_with("app"),
            "{:?}",
            answer.header("content-type")
        );
        let series = series(&text);
        for (name, value) in [
            ("tapetum_build_info{version=\"0.1.0\"}", 1.0),
            ("tapetum_ready", 1.0),
            ("tapetum_process_cpu_seconds_total", 3600.25),
            ("tapetum_process_resident_memory_bytes", 123_456_789.0),
            ("tapetum_camera_state{camera=\"yard\",state=\"waiting\"}", 1.0),
            ("tapetum_camera_state{camera=\"yard\",state=\"streaming\"}", 0.0),
            ("tapetum_frames_captured_total{camera=\"front gate\"}", 1000.0),
            ("tapetum_frames_total{camera=\"front gate\",fate=\"delivered\",reason=\"\"}", 990.0),
            ("tapetum_frames_total{camera=\"front gate\",fate=\"dropped\",reason=\"stale\"}", 6.0),
            ("tapetum_frames_total{camera=\"front gate\",fate=\"failed\",reason=\"detect\"}", 2.0),
            ("tapetum_frames_in_flight{camera=\"front gate\"}", 2.0),
            ("tapetum_camera_reconnects_total{camera=\"yard\"}", 3.0),
            ("tapetum_camera_stalls_total{camera=\"yard\"}", 1.0),
            ("tapetum_camera_downtime_seconds_total{camera=\"yard\"}", 12.5),
            ("tapetum_last_frame_age_seconds{camera=\"yard\"}", 0.04),
            ("tapetum_result_age_seconds_bucket{le=\"0.05\",camera=\"yard\"}", 1.0),
            ("tapetum_result_age_seconds_bucket{le=\"0.075\",camera=\"yard\"}", 3.0),
            ("tapetum_result_age_seconds_bucket{le=\"0.2\",camera=\"yard\"}", 4.0),
            ("tapetum_result_age_seconds_bucket{le=\"+Inf\",camera=\"yard\"}", 4.0),
            ("tapetum_result_age_seconds_count{camera=\"yard\"}", 4.0),
            ("tapetum_result_age_seconds_sum{camera=\"yard\"}", 0.361),
            ("tapetum_stage_seconds_bucket{le=\"0.01\",camera=\"yard\",stage=\"detect\"}", 2.0),
            ("tapetum_stage_seconds_count{camera=\"yard\",stage=\"read \\\"plate\\\"\"}", 0.0),
            ("tapetum_stage_engine_info{camera=\"yard\",stage=\"detect\",engine=\"ort:cpu/fp32\"}", 1.0),
            (
                "tapetum_model_queue{network=\"FastestDet\",sha256=\"abababababab\",engine=\"ort:cpu/fp32\"}",
                1.0,
            ),
            (
                "tapetum_model_runs_total{network=\"FastestDet\",sha256=\"abababababab\",engine=\"ort:cpu/fp32\"}",
                500.0,
            ),
            (
                "tapetum_model_regions_total{network=\"FastestDet\",sha256=\"abababababab\",engine=\"ort:cpu/fp32\"}",
                900.0,
            ),
            ("tapetum_output_up{output=\"mqtt\"}", 0.0),
            ("tapetum_output_queued{output=\"mqtt\"}", 2.0),
            ("tapetum_output_spooled{output=\"mqtt\"}", 40.0),
            ("tapetum_output_delivered_total{output=\"mqtt\"}", 900.0),
            ("tapetum_output_dropped_total{output=\"mqtt\",reason=\"queue full\"}", 5.0),
            ("tapetum_board_temperature_celsius{zone=\"nvme\"}", 80.5),
            ("tapetum_board_too_hot{zone=\"nvme\"}", 1.0),
            ("tapetum_board_too_hot{zone=\"package\"}", 0.0),
            ("tapetum_board_info{board=\"generic-x86\",power_mode=\"balanced\"}", 1.0),
            ("tapetum_board_throttled", 1.0),
            ("tapetum_board_max_fps", 2.5),
            ("tapetum_camera_gaps_total{camera=\"yard\",kind=\"driver_skipped\"}", 3.0),
            ("tapetum_camera_gaps_total{camera=\"yard\",kind=\"packets_lost\"}", 0.0),
            ("tapetum_config_refused", 0.0),
        ] {
            let found = series.get(&sorted(name)).copied();
            assert!(
                found.is_some_and(|found| (found - value).abs() < 1e-9),
                "{name}: {found:?}, want {value}\n{text}"
            );
        }
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        assert!(!text.contains("e308"), "buckets end with +Inf");
        for family in families {
            assert!(family.starts_with("tapetum_"), "{family}");
            assert!(
                include_str!("../../../docs/http.md").contains(family),
                "docs/http.md does not tell of {family}"
            );
        }
    }
}

#[test]
fn prometheus_own_tool_finds_nothing_wrong() {
    let (_serving, address) = Made::new().serve();
    let text = get(address, "/metrics", &[]).text();
    let mut tool = Command::new("promtool");
    let tool =
        tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Some(mut tool) = there("promtool", tool.spawn()) else { return };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = tool.wait_with_output().unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}\n{text}",
        String::from_utf8_lossy(&out.stderr)
    );
}
