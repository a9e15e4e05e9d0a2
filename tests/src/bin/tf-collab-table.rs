//! Prints how good TF-Collab is on the development clips, on every engine at hand, beside PyTorch: the table in README.
//!
//! `cargo run --release -p tapetum-tests --bin tf-collab-table`

use std::path::PathBuf;

use tapetum_runtime::backend::BACKENDS;
use tapetum_tests::tf_collab::{CLIPS, Reference, Truth, evaluate, json};

fn main() {
    let cache = tapetum::prepare::cache_dir().unwrap_or_else(|_| PathBuf::from("target"));
    let reference: Reference = json("reference.json");
    println!("| clip | engine | accuracy | outside IoU | TFBU IoU | BUT, s | other class | area off |");
    println!("|---|---|---|---|---|---|---|---|");
    let times = |all: &[Option<f64>]| {
        let one = |t: &Option<f64>| t.map_or("none".to_owned(), |t| format!("{t:.2}"));
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    for clip in CLIPS {
        let truth: Truth = json(&format!("gt/{clip}.json"));
        let drawn: Vec<_> = truth.intervals.iter().map(|i| i.but_s).collect();
        println!("| {clip} | drawn | 1 | 1 | 1 | {} | | |", times(&drawn));
        let r = &reference.end_to_end[clip];
        let but: Vec<_> = r.but.iter().map(|b| b.pred_but_s).collect();
        let (acc, det, seg) = (r.cls_acc, r.det_outside_iou, r.seg_iou_end_to_end);
        println!("| | PyTorch | {acc:.4} | {det:.4} | {seg:.4} | {} | | |", times(&but));
        for engine in BACKENDS {
            if let Err(e) = engine.probe() {
                eprintln!("not run on {}: {e}", engine.name());
                continue;
            }
            match evaluate(clip, engine.name(), &cache) {
                Ok(f) => println!(
                    "| | {} | {:.4} | {:.4} | {:.4} | {} | {} of {} | {} px |",
                    engine.full_name(),
                    f.accuracy,
                    f.outside_iou,
                    f.mask_iou,
                    times(&f.but_s),
                    f.other_class,
                    f.seen.len(),
                    f.area_off
                ),
                Err(e) => println!("| | {} | {e} | | | | | |", engine.full_name()),
            }
        }
    }
}
