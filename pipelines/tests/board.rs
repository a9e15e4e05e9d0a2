//! The machine as the daemon sees it: a folder with the files of a board, which gets hot and cools down again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tapetum::site::{
    config::SiteFile,
    daemon::{Daemon, Level},
    status::{HeatLevel, SiteStatus},
};

/// On a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A board and a site on it, with what its daemon has told.
struct Place {
    folder: tempfile::TempDir,
    told: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Place {
    fn new(head: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), told: Arc::default() };
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").display().to_string();
        place.write(
            "eyes.toml",
            &format!(
                "[pipeline]\nname = 'eyes'\n\n[model.classifier]\ncheckpoint = '{demo}/tf-cls.pt'\n\
                 contract = '{demo}/tf-cls.contract.toml'\n\n[[stage]]\nname = 'state'\nkind = 'classify'\n\
                 model = 'classifier'\n"
            ),
        );
        place.write(
            "site.toml",
            &format!(
                "[site]\nname = 'test'\nstate = 'state'\n{head}\n[http]\nlisten = '127.0.0.1:0'\n\n[limits]\nhot_fps = 1\n\n\
                 [camera.gate]\nsource = 'loop:{demo}/dev_a.mp4'\npipeline = 'eyes.toml'\nmax_fps = 10\n"
            ),
        );
        place.write("root/sys/class/thermal/thermal_zone0/type", "tj-thermal\n");
        place.heat(50);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn heat(&self, celsius: u32) {
        self.write("root/sys/class/thermal/thermal_zone0/temp", &format!("{celsius}000\n"));
    }

    fn start(&self) -> Daemon {
        let told = self.told.clone();
        let tell = Arc::new(move |level, what: &str| told.lock().unwrap().push((level, what.to_owned())));
        let file = SiteFile::read(&self.path("site.toml")).unwrap();
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        Daemon::start_below(&self.path("root"), file, Some(cache), tell).unwrap()
    }

    fn says(&self, level: Level, what: &str) -> bool {
        self.told.lock().unwrap().iter().any(|(l, text)| *l == level && text.contains(what))
    }

    fn until(&self, daemon: &Daemon, what: &str, done: impl Fn(&SiteStatus) -> bool) -> SiteStatus {
        let from = Instant::now();
        loop {
            let status = daemon.site().status();
            if done(&status) {
                return status;
            }
            let told = self.told.lock().unwrap();
            assert!(from.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{told:#?}\n{status:#?}");
            drop(told);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn too_hot(status: &SiteStatus) -> u64 {
    status.cameras[0].frames.dropped.get("too_hot").copied().unwrap_or(0)
}

#[test]
fn the_board_says_which_engines_are_tried_and_heat_slows_the_cameras_until_it_is_over() {
    let place = Place::new("");
    place.write(
        "root/sys/firmware/devicetree/base/compatible",
        "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0",
    );
    place.write("root/var/lib/nvpmodel/status", "pmode:0000\n");
    place.write("root/etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n");
    let daemon = place.start();
    let status = place.until(&daemon, "frames come", |s| s.cameras[0].frames.delivered > 20);
    let board = status.board.as_ref().unwrap();
    assert_eq!((board.name.as_str(), board.asked), ("orin-nano", false));
    assert_eq!(board.power_mode.as_deref(), Some("15W"));
    assert_eq!(board.temperatures, [("tj-thermal".to_owned(), 50.0)]);
    assert_eq!((board.level, board.throttled, board.max_fps), (Some(HeatLevel::Normal), false, None));
    assert!(place.says(Level::Info, "engines ort:tensorrt, ort:cuda, ort, tract on 4 threads"));
    // The profile's first engines are not on this machine, which is told.
    let passed: Vec<_> = status.cameras[0].stages[0].passed_over.iter().map(|(e, _)| e.as_str()).collect();
    assert!(passed.starts_with(&["ort:tensorrt", "ort:cuda"]), "{passed:?}");

    place.heat(96);
    let status = place.until(&daemon, "it is too hot", |s| too_hot(s) > 10);
    let board = status.board.unwrap();
    assert_eq!((board.level, board.throttled, board.max_fps), (Some(HeatLevel::Hot), true, Some(1.0)));
    assert_eq!(board.too_hot, ["tj-thermal"]);
    assert!(place.says(Level::Warning, "board orin-nano is too hot, tj-thermal at 96 °C (hot from 95 on)"));
    // What it looks at is less, and every frame is still accounted for.
    let slow = place.until(&daemon, "few frames", |s| s.cameras[0].fps[1] < 3.0 && s.cameras[0].fps[1] > 0.0);
    let frames = &slow.cameras[0].frames;
    let gone = frames.delivered + frames.dropped.values().sum::<u64>() + frames.failed.values().sum::<u64>();
    assert_eq!(frames.captured, gone + frames.in_flight, "{frames:?}");
    // What got lost without a word would be in flight for ever.
    assert!(frames.in_flight <= 8, "{frames:?}");

    // Between its limits it stays as it is: nothing swings.
    place.heat(90);
    let before = place.until(&daemon, "it is seen", |s| s.board.as_ref().unwrap().temperatures[0].1 == 90.0);
    let board = before.board.as_ref().unwrap();
    assert_eq!((board.level, board.max_fps), (Some(HeatLevel::Warm), Some(1.0)));
    place.until(&daemon, "still capped", |s| too_hot(s) > too_hot(&before) + 10);

    place.heat(60);
    let cool = place.until(&daemon, "it has cooled down", |s| s.board.as_ref().unwrap().max_fps.is_none());
    assert!(place.says(Level::Info, "board orin-nano has cooled down"));
    place.until(&daemon, "frames as before", |s| {
        s.cameras[0].frames.delivered > cool.cameras[0].frames.delivered + 30
    });
    daemon.stop();
}

#[test]
fn a_board_can_be_asked_for_and_a_wrong_one_is_told_with_its_place() {
    let place = Place::new("board = 'generic-arm64'");
    let daemon = place.start();
    let board = daemon.site().status().board.unwrap();
    assert_eq!((board.name.as_str(), board.asked), ("generic-arm64", true));
    daemon.stop();

    let text = fs::read_to_string(place.path("site.toml")).unwrap();
    let text = text.replace("generic-arm64", "orin-nanno").replace("hot_fps = 1", "hot_fps = 0");
    let error = SiteFile::parse(&text, &place.path("site.toml")).map(|_| ()).unwrap_err().to_string();
    for says in
        ["site.toml:4:", "unknown board \"orin-nanno\"; did you mean \"orin-nano\"?", "hot_fps must be from"]
    {
        assert!(error.contains(says), "{says}\n{error}");
    }
}
