//! Masks and overlays.

use std::{collections::BTreeSet, fs};

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
