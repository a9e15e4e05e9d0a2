//! Profiles, detection, heat and power modes, on trees of files made for it.

use std::{fs, path::Path};

use tapetum_device::{Board, Cooling, Heat, Level, Zone, mode_number, power_mode};
use tempfile::TempDir;

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const COMPATIBLE: &str = "sys/firmware/devicetree/base/compatible";

#[test]
fn every_profile_is_sound_and_bears_its_files_name() {
    let names = Board::names();
    for name in &names {
        assert_eq!(Board::by_name(name).unwrap().name, *name);
    }
    let mut files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("boards"))
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    names.sort();
    assert_eq!(files, names);
    // No board answers to the name of another.
    let all = |name: &str| Board::by_name(name).unwrap().compatible;
    let mut compatible: Vec<_> = names.iter().flat_map(|n| all(n)).collect();
    compatible.sort();
    assert!(compatible.windows(2).all(|pair| pair[0] != pair[1]), "{compatible:?}");
}

#[test]
fn a_board_is_told_by_its_device_tree() {
    for (compatible, arch, name) in [
        ("nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0", "aarch64", "orin-nano"),
        ("nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0", "aarch64", "orin-nx"),
        ("nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0", "aarch64", "agx-orin"),
        ("raspberrypi,5-model-b\0brcm,bcm2712\0", "aarch64", "generic-arm64"),
        // Not a name but the beginning of one.
        ("nvidia,p3767-00051\0nvidia,p3767\0", "aarch64", "generic-arm64"),
        ("\u{fffd}\0\0", "x86_64", "generic-x86"),
    ] {
        let root = tree(&[(COMPATIBLE, compatible)]);
        assert_eq!(Board::detect_on(root.path(), arch).unwrap().name, name, "{compatible:?}");
    }
    assert_eq!(Board::detect_on(tree(&[]).path(), "x86_64").unwrap().name, "generic-x86");
    let error = Board::detect_on(tree(&[]).path(), "riscv64").unwrap_err().to_string();
    assert!(error.contains("no board profile for the processor riscv64"), "{error}");
    let error = Board::by_name("orin-nanno").unwrap_err().to_string();
    assert!(error.contains("did you mean \"orin-nano\"?"), "{error}");
}

#[test]
fn every_mistake_in_a_profile_is_told_with_its_place() {
    let text = "name = \"x\"\narch = 3\nengines = []\nthreads = 0\nnode = []\nnodes = [\"/etc/passwd\", \"/dev/x y\", \
                \"/dev/../etc\"]\n[thermal]\na = { warm = 90, hot = 80 }\nb = { warm = 1 }\nc = { cold = 1 }\n";
    let error = Board::read(text, "x.toml").unwrap_err().to_string();
    for says in [
        "x.toml:1:1: description is missing here",
        "x.toml:2:8: arch must be a string",
        "x.toml:3:11: engines must name one at least",
        "x.toml:4:11: threads must be 1 at least",
        "unknown key \"node\" in the file; did you mean \"nodes\"?",
        "\"/etc/passwd\" is no device node",
        "\"/dev/x y\" is no device node",
        "\"/dev/../etc\" is no device node",
        "a: 0 < warm <= hot <= 150 °C must hold",
        "x.toml:9:5: hot is missing here",
        "unknown key \"cold\"",
    ] {
        assert!(error.contains(says), "{says}\n{error}");
    }
}

#[test]
fn nodes_become_a_drop_in_with_what_is_there() {
    let root = tree(&[
        ("dev/nvmap", ""),
        ("dev/nvgpu/igpu0/ctrl", ""),
        ("dev/nvgpu/igpu0/as", ""),
        ("dev/dri/by-path/x", ""),
        ("dev/sda", ""),
    ]);
    let board = Board::by_name("orin-nx").unwrap();
    let text = board.drop_in(root.path()).unwrap();
    assert_eq!(
        text,
        "# Made from the board profile orin-nx.\n[Service]\nDeviceAllow=/dev/nvmap rw\n\
         DeviceAllow=/dev/nvgpu/igpu0/as rw\nDeviceAllow=/dev/nvgpu/igpu0/ctrl rw\n"
    );
    assert_eq!(board.drop_in(tree(&[]).path()), None);
    assert_eq!(Board::by_name("generic-x86").unwrap().drop_in(root.path()), None);
}

fn heat(files: &[(&str, &str)]) -> Heat {
    let files: Vec<_> = files.iter().map(|(p, t)| (format!("sys/class/thermal/{p}"), *t)).collect();
    let files: Vec<_> = files.iter().map(|(p, t)| (p.as_str(), *t)).collect();
    Heat::read(tree(&files).path(), &Board::by_name("orin-nano").unwrap())
}

#[test]
fn heat_is_read_by_the_type_of_zone() {
    let heat = heat(&[
        ("thermal_zone10/type", "wifi\n"),
        ("thermal_zone10/temp", "99000\n"),
        ("thermal_zone2/type", "cpu-thermal\n"),
        ("thermal_zone2/temp", "61250\n"),
        ("thermal_zone0/type", "gpu-thermal\n"),
        ("thermal_zone0/temp", "86000\n"),
        // Off, without a temperature, not a number.
        ("thermal_zone3/type", "soc0-thermal\n"),
        ("thermal_zone3/temp", "-273000\n"),
        ("thermal_zone4/type", "soc1-thermal\n"),
        ("thermal_zone5/type", "soc2-thermal\n"),
        ("thermal_zone5/temp", "warm\n"),
    ]);
    let zone = |kind: &str, celsius, level| Zone { kind: kind.into(), celsius, level };
    assert_eq!(
        heat.zones,
        [
            zone("gpu-thermal", 86.0, Some(Level::Warm)),
            zone("cpu-thermal", 61.25, Some(Level::Normal)),
            zone("wifi", 99.0, None),
        ]
    );
    assert_eq!(heat.hottest().unwrap().kind, "gpu-thermal");
    assert_eq!(heat.level(), Some(Level::Warm));
    assert!(!heat.throttled());
}

#[test]
fn a_machine_slows_down_when_it_is_hot_or_cools_by_other_than_a_fan() {
    let cooling = |kind: &'static str, state: &'static str| {
        heat(&[
            ("cooling_device0/type", kind),
            ("cooling_device0/cur_state", state),
            ("cooling_device0/max_state", "7"),
        ])
    };
    assert!(cooling("cpufreq-cpu0", "2\n").throttled());
    assert_eq!(cooling("x", "2").cooling, [Cooling { kind: "x".into(), state: 2, most: 7 }]);
    for (kind, state) in
        [("pwm-fan", "7"), ("cpufreq-cpu0", "0"), ("intel_powerclamp", "-1"), ("TCC Offset", "10")]
    {
        assert!(!cooling(kind, state).throttled(), "{kind} {state}");
    }
    let hot = heat(&[("thermal_zone0/type", "tj-thermal"), ("thermal_zone0/temp", "95000")]);
    assert!(hot.throttled() && hot.level() == Some(Level::Hot));
    let nothing = heat(&[]);
    assert_eq!((nothing.level(), nothing.hottest(), nothing.throttled()), (None, None, false));
}

#[test]
fn a_power_mode_is_known_by_its_name() {
    let conf = "# comment\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/x\n\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE 1\n\
                < POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n<POWER_MODEL ID=x NAME=BAD>\n";
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(mode_number(conf, &names(&["MAXN_SUPER", "15W"])).unwrap(), 2);
    assert_eq!(mode_number(conf, &names(&["MAXN", "15W"])).unwrap(), 0);
    let error = mode_number(conf, &names(&["MAXN", "BAD"])).unwrap_err().to_string();
    assert_eq!(error, "no power mode MAXN or BAD; the machine has 15W, MAXN_SUPER");
    assert!(mode_number("", &names(&["MAXN"])).unwrap_err().to_string().ends_with("has none"));
}

#[test]
fn the_mode_that_a_machine_is_in_is_told_by_its_name() {
    let conf = ("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n");
    let jetson = |status| [conf, ("var/lib/nvpmodel/status", status)];
    let mode = |files: &[(&str, &str)]| power_mode(tree(files).path());
    assert_eq!(mode(&jetson("pmode:0002 fmode:quiet\n")).as_deref(), Some("MAXN_SUPER"));
    assert_eq!(mode(&jetson("pmode:0007\n")).as_deref(), Some("mode 7"));
    let governor = ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n");
    assert_eq!(mode(&[governor]).as_deref(), Some("governor schedutil"));
    let profile = ("sys/firmware/acpi/platform_profile", "balanced\n");
    assert_eq!(mode(&[governor, profile]).as_deref(), Some("balanced"));
    for status in ["", "pmode:", "pmode:x", "0002"] {
        assert_eq!(mode(&jetson(status)), None, "{status:?}");
    }
}
