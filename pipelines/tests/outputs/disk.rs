//! A disk that is full for a while.

use std::{fs, time::Duration};

use tapetum::site::{
    event::{EventQuery, Ids},
    output::sqlite::StoreReader,
};
use tapetum_parts::SmallDisk;

use super::{offer, open, until};

#[test]
fn a_full_disk_is_told_leaves_no_half_line_and_nothing_is_lost_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 4 << 20) else { return };
    let toml = "[[output]]\nkind = \"sqlite\"\n[[output]]\nkind = \"jsonl\"\nmax_file_mb = 1\nmax_mb = 1\nsync = \"each\"\n\
                [[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n";
    let outputs = open(toml, dir.path());
    let ids = Ids::new().unwrap();
    let both = |n| {
        let made = offer(&*outputs[0], &ids, n);
        (made, offer(&*outputs[1], &ids, n), offer(&*outputs[2], &ids, n).len())
    };
    let (mut stored, mut lines, mut posted) = both(5);
    assert!(outputs.iter().all(|output| output.flush(Duration::from_secs(10))));
    let full = disk.fill();
    let more = both(500);
    stored.extend(more.0);
    lines.extend(more.1);
    posted += more.2;
    until(Duration::from_secs(20), "every output tells of the full disk", || {
        outputs.iter().all(|output| {
            let status = output.status();
            !status.up && status.why.is_some_and(|why| why.contains("disk full"))
        })
    });
    let written = || {
        let files = fs::read_dir(dir.path().join("state/jsonl")).unwrap();
        let text: String = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        assert!(text.ends_with('\n'));
        let line = |line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    written();
    fs::remove_file(full).unwrap();
    assert!(outputs.iter().all(|output| output.flush(Duration::from_secs(20))));
    assert_eq!(written(), lines);
    let reader = StoreReader::open(&dir.path().join("state/site.sqlite")).unwrap();
    let page = reader.events(&EventQuery { limit: 1000, ..EventQuery::default() }).unwrap();
    assert_eq!(page.events.into_iter().rev().map(|event| event.id).collect::<Vec<_>>(), stored);
    assert_eq!(outputs[2].status().spooled as usize, posted);
    for output in &outputs {
        assert!(output.status().dropped.is_empty(), "{:?}", output.status());
        output.stop(Duration::from_secs(1));
    }
    drop(outputs);
    drop(reader);
    drop(disk);
}

#[test]
fn half_a_line_of_an_earlier_run_is_cut_off_and_old_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("state/jsonl");
    fs::create_dir_all(&lines).unwrap();
    fs::write(lines.join("events-2001-02-03.jsonl"), vec![b'\n'; 1 << 20]).unwrap();
    let toml = "[[output]]\nkind = \"jsonl\"\nmax_file_mb = 1\nmax_mb = 1\n";
    let ids = Ids::new().unwrap();
    let outputs = open(toml, dir.path());
    offer(&*outputs[0], &ids, 2);
    assert!(outputs[0].flush(Duration::from_secs(5)));
    outputs[0].stop(Duration::from_secs(1));
    assert!(!lines.join("events-2001-02-03.jsonl").exists());
    let file = fs::read_dir(&lines).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], b"{\"id\": \"half"].concat()).unwrap();
    let outputs = open(toml, dir.path());
    offer(&*outputs[0], &ids, 1);
    assert!(outputs[0].flush(Duration::from_secs(5)));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 3 && !text.contains("half"), "{text}");
}
