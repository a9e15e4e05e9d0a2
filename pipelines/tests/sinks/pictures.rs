//! Masks, overlays, restored pictures.

use std::{collections::BTreeSet, fs};

use serde_json::json;
use tapetum::{Skip, SlotState, sink};
use tapetum_runtime::{
    Image, PixelFormat, Rect, Tensor,
    finding::{Finding, Restored, Windows},
    preprocess::Placement,
};

use crate::fabricate::{self, SIZE};

#[test]
fn masks_are_palette_pictures_of_the_frames_size_where_something_was_segmented() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["masks"]);
    fabricate::play(&["masks"], dir.path(), &run, &fabricate::items(), &fabricate::summary());
    let written: BTreeSet<_> = fs::read_dir(dir.path().join("masks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(written, (25..40).map(|seq| format!("{seq:06}.png")).collect());

    let file = fs::File::open(dir.path().join("masks/000030.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let info = reader.info();
    assert_eq!((info.width as usize, info.height as usize), SIZE);
    assert_eq!(info.color_type, png::ColorType::Indexed);
    let mut pixels = vec![0; SIZE.0 * SIZE.1];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels.iter().filter(|p| **p == 1).count(), 305);
    assert_eq!(pixels.iter().filter(|p| **p > 1).count(), 0);
    assert_eq!(pixels[(20 + 40) * SIZE.0 + 30 + 50], 1);
}

/// The chunks in `bytes` and in its lists, as letters (of a list, its kind) and content.
fn walk<'a>(mut bytes: &'a [u8], found: &mut Vec<([u8; 4], &'a [u8])>) {
    while !bytes.is_empty() {
        let size = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let content = &bytes[8..8 + size];
        if [b"RIFF", b"LIST"].iter().any(|list| bytes.starts_with(*list)) {
            found.push((content[..4].try_into().unwrap(), &content[4..]));
            walk(&content[4..], found);
        } else {
            found.push((bytes[..4].try_into().unwrap(), content));
        }
        bytes = &bytes[8 + size.next_multiple_of(2)..];
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap()) as usize
}

#[test]
fn the_overlay_is_a_video_with_an_index_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["overlay"]);
    fabricate::play(&["overlay"], dir.path(), &run, &fabricate::items(), &fabricate::summary());
    let bytes = fs::read(dir.path().join("overlay.avi")).unwrap();
    let mut chunks = vec![];
    walk(&bytes, &mut chunks);
    let one = |name: &[u8; 4]| chunks.iter().find(|(letters, _)| letters == name).unwrap().1;
    let frames: Vec<_> =
        chunks.iter().filter(|(letters, _)| letters == b"00dc").map(|(_, jpeg)| *jpeg).collect();
    assert_eq!(frames.len(), 60);
    assert!(frames.iter().all(|jpeg| jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9])));
    let head = one(b"avih");
    assert_eq!([0, 3, 4, 8, 9].map(|at| number(head, at)), [100_000, 0x10, 60, SIZE.0, SIZE.1]);
    let stream = one(b"strh");
    assert_eq!([5, 6, 8].map(|at| number(stream, at)), [100_000, 1_000_000, 60]);
    let (movi, index) = (one(b"movi"), one(b"idx1"));
    for (i, jpeg) in frames.iter().enumerate() {
        let [offset, size] = [2, 3].map(|at| number(index, 4 * i + at));
        assert_eq!(&movi[offset - 4 + 8..offset - 4 + 8 + size], *jpeg);
    }
}

#[test]
fn a_killed_run_leaves_a_video_up_to_its_last_update() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["overlay"]);
    let mut sinks = fabricate::open(&["overlay"], dir.path(), &run);
    for item in &fabricate::items()[..32] {
        sinks[0].deliver(item, &run).unwrap();
    }
    drop(sinks);
    let bytes = fs::read(dir.path().join("overlay.avi")).unwrap();
    let mut chunks = vec![];
    walk(&bytes, &mut chunks);
    assert_eq!(chunks.iter().filter(|(letters, _)| letters == b"00dc").count(), 32);
}

#[test]
fn frames_of_another_size_begin_another_video() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["overlay"]);
    let mut items = vec![fabricate::item(0, 0, 0), fabricate::item(1, 0, 0)];
    items[1].frame.image.reset(4000, 30, tapetum_runtime::PixelFormat::Rgb8).fill(9);
    fabricate::play(&["overlay"], dir.path(), &run, &items, &fabricate::summary());
    assert!(dir.path().join("overlay-2.avi").is_file());
}

#[test]
fn restored_pictures_are_written_as_they_are_and_named_in_the_results() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = fabricate::run(&["pictures", "jsonl"]);
    run.stages.truncate(1);
    run.stages[0].kind = "restore";
    let picture = |seq: u64| {
        let pixels = (0..5 * 7 * 3).map(|n| (n * 2 + seq) as u8).collect();
        Image::new(5, 7, PixelFormat::Rgb8, pixels).unwrap()
    };
    let mut items: Vec<_> = (0..3).map(|seq| fabricate::item(seq, fabricate::CLEAR, 0)).collect();
    for item in &mut items {
        item.slots.truncate(1);
        let mut restored = Restored { image: picture(item.frame.seq), ..Restored::default() };
        restored.tiles.run = 1;
        // The last one is of a network that prunes windows, and that kept the upper left one of four.
        if item.frame.seq == 2 {
            restored.kept.begin((5, 7), 1);
            let decision = Tensor::new(&[1, 1, 2, 2], vec![1f32, 0.0, 0.0, 0.0]).unwrap();
            let placement = Placement {
                roi: Rect { x: 0, y: 0, width: 5, height: 7 },
                input: (8, 8),
                scale_x: 1.0,
                scale_y: 1.0,
                offset_x: 0.0,
                offset_y: 0.0,
                valid: Rect { x: 0, y: 0, width: 5, height: 7 },
            };
            restored.kept.note(0, &decision, Windows { stride: 4, shift: 0 }, &placement).unwrap();
        }
        item.slots[0].finding = Finding::Image(restored);
    }
    items[1].slots[0].state = SlotState::Skipped(Skip::When);
    fabricate::play(&["pictures", "jsonl"], dir.path(), &run, &items, &fabricate::summary());
    let text = fabricate::text(dir.path(), "results.jsonl");
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(fs::read_dir(dir.path().join("restored")).unwrap().count(), 3);
    let kept = &lines[2]["findings"]["state"]["kept"];
    assert_eq!((&kept["fractions"], &kept["map"]), (&json!([0.25]), &json!("restored/000002-kept.png")));
    let map = image::open(dir.path().join("restored/000002-kept.png")).unwrap().into_luma8();
    assert_eq!((map.dimensions(), map.get_pixel(3, 3).0, map.get_pixel(4, 3).0), ((5, 7), [255], [0]));
    assert_eq!(map.pixels().filter(|p| p.0[0] > 0).count(), 16);
    assert!(lines[0]["findings"]["state"].get("kept").is_none());
    for seq in [0, 2] {
        let name = lines[seq]["findings"]["state"]["image"].as_str().unwrap();
        assert_eq!(name, format!("restored/{seq:06}.png"));
        let written = image::open(dir.path().join(name)).unwrap().into_rgb8();
        assert_eq!(written.as_raw(), picture(seq as u64).data());
    }
    let e = sink::open("pictures", dir.path(), &fabricate::run(&["pictures"])).err().unwrap();
    assert!(e.to_string().contains("tf-collab has no stage of kind \"restore\""), "{e}");
}
