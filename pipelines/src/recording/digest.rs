//! Digests by which a run is held against another.

use sha2::{Digest, Sha256};
use tapetum_runtime::{Image, finding::Finding};

use crate::{Item, RunInfo, prepare::hex, sink::ResultLine};

/// A picture's size and pixels, as CRC-32: 8 hexadecimal digits.
pub fn picture(image: &Image) -> String {
    format!("{:08x}", pixels(image))
}

fn pixels(image: &Image) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for side in [image.width(), image.height()] {
        crc.update(&(side as u64).to_le_bytes());
    }
    crc.update(image.data());
    crc.finalize()
}

/// What was found on a frame, to the last bit: its status and findings as `results.jsonl` has them, and the pixels of masks and
/// restored pictures. SHA-256, 64 hexadecimal digits. Times and engines are no part of it.
pub fn found(line: &ResultLine, item: &Item, run: &RunInfo) -> String {
    let mut digest = Sha256::new();
    digest.update(line.found());
    for (at, stage) in run.stages.iter().enumerate() {
        let Some(finding) = item.found(at) else { continue };
        match finding {
            Finding::Mask(mask) => {
                digest.update(&stage.name);
                for part in mask.parts() {
                    part.rect.xyxy().iter().for_each(|v| digest.update((*v as u64).to_le_bytes()));
                    digest.update(crc32fast::hash(&part.classes).to_le_bytes());
                }
            }
            Finding::Image(restored) => {
                digest.update(&stage.name);
                digest.update(pixels(&restored.image).to_le_bytes());
            }
            _ => {}
        }
    }
    hex(&digest.finalize())
}
