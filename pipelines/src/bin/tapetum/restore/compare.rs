//! How near the results come to what they should have become.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tapetum::source::{self, Next, Source, images};
use tapetum_runtime::quality::{psnr, ssim};
use tapetum_runtime::{Error, Frame, Image, PixelFormat, Result};

use crate::table;

/// The conventions, said wherever the figures are shown.
const PSNR: &str = "over all samples of the 8-bit RGB pictures, peak 255";
const SSIM: &str =
    "Wang et al. 2004: Gaussian 11×11, σ 1.5, K 0.01 and 0.03, borders left out, mean of the channels";

/// Where the truth comes from.
pub enum Truth {
    /// A picture for each frame.
    Files(Vec<PathBuf>),
    /// A video, frame by frame.
    Video(Box<dyn Source>, Box<Frame>),
}

impl Truth {
    /// The truth at `path` for the pictures `inputs`, or for a video.
    ///
    /// # Errors
    /// There is none for some of the pictures.
    pub fn open(path: &Path, inputs: Option<&[PathBuf]>) -> Result<Self> {
        let Some(inputs) = inputs else {
            return Ok(Self::Video(source::open(&path.to_string_lossy())?, Box::default()));
        };
        if path.is_file() {
            return match inputs {
                [_] => Ok(Self::Files(vec![path.to_owned()])),
                _ => Err(Error::config(format!(
                    "{} is one picture, there are {} to compare; give a folder with the same names",
                    path.display(),
                    inputs.len()
                ))),
            };
        }
        let all = images::Images::open(&path.to_string_lossy())?;
        let of = |input: &PathBuf| all.paths().iter().find(|p| p.file_stem() == input.file_stem()).cloned();
        let found: Vec<Option<PathBuf>> = inputs.iter().map(of).collect();
        let missing: Vec<String> = inputs
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(input, _)| input.file_stem().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        if !missing.is_empty() {
            let some = missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::config(format!(
                "{} holds no picture for {} of {}: {some}",
                path.display(),
                missing.len(),
                inputs.len()
            )));
        }
        Ok(Self::Files(found.into_iter().flatten().collect()))
    }

    fn read(&mut self, seq: u64, out: &mut Image) -> Result<String> {
        match self {
            Self::Files(files) => {
                let file = usize::try_from(seq).ok().and_then(|n| files.get(n));
                let file = file.ok_or_else(|| Error::internal(format!("no truth for frame {seq}")))?;
                images::read(file, out)?;
                Ok(file.file_name().unwrap_or_default().to_string_lossy().into_owned())
            }
            Self::Video(video, frame) => loop {
                match video.next(frame)? {
                    Next::Frame if frame.seq == seq => {
                        out.copy_from(&frame.image);
                        return Ok(seq.to_string());
                    }
                    Next::Frame | Next::Idle => {}
                    Next::Unreadable(e) => return Err(e.at(format!("truth of frame {seq}"))),
                    Next::End => return Err(Error::bad_input(format!("the truth ends before frame {seq}"))),
                }
            },
        }
    }
}

/// The figures of one frame, before and after restoration.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    /// In dB; infinite for equal pictures.
    psnr: [f64; 2],
    /// `None` for pictures that are smaller than its window.
    ssim: Option<[f64; 2]>,
}

/// Compares frame by frame.
pub struct Comparison {
    truth: Truth,
    rows: Vec<Row>,
    /// In colour, as the truth is compared.
    colour: [Image; 3],
}

impl Comparison {
    pub fn new(truth: Truth) -> Self {
        Self { truth, rows: Vec::new(), colour: Default::default() }
    }

    /// Notes the figures of frame `seq` and leaves its truth in `truth`.
    ///
    /// # Errors
    /// The truth cannot be read or is of another size.
    pub fn frame(&mut self, seq: u64, before: &Image, after: &Image, truth: &mut Image) -> Result<()> {
        let name = self.truth.read(seq, truth)?;
        for (to, from) in self.colour.iter_mut().zip([before, after, truth]) {
            to.crop_from(from, from.rect(), PixelFormat::Rgb8);
        }
        let [before, after, truth] = &self.colour;
        let at = |e: Error| e.at(format!("{name}, compared with its truth"));
        let psnr = [psnr(before, truth).map_err(at)?, psnr(after, truth).map_err(at)?];
        let ssim = ssim(before, truth).and_then(|b| Ok([b, ssim(after, truth)?])).ok();
        self.rows.push(Row { name, psnr, ssim });
        Ok(())
    }

    pub fn rows(&self) -> Vec<Row> {
        self.rows.clone()
    }
}

/// Means over the frames: PSNR before and after, and SSIM over those that have one.
fn means(rows: &[Row]) -> ([f64; 2], Option<[f64; 2]>) {
    let mean =
        |pairs: &[[f64; 2]]| [0, 1].map(|i| pairs.iter().map(|p| p[i]).sum::<f64>() / pairs.len() as f64);
    let psnr: Vec<_> = rows.iter().map(|r| r.psnr).collect();
    let ssim: Vec<_> = rows.iter().filter_map(|r| r.ssim).collect();
    (mean(&psnr), (!ssim.is_empty()).then(|| mean(&ssim)))
}

/// A table, for people.
pub fn to_text(rows: &[Row]) -> String {
    let line = |name: &str, psnr: [f64; 2], ssim: Option<[f64; 2]>| {
        let mut row = vec![name.to_owned()];
        row.extend(psnr.map(|v| format!("{v:.2}")));
        row.extend(ssim.map_or_else(|| ["–", "–"].map(str::to_owned), |s| s.map(|v| format!("{v:.4}"))));
        row
    };
    let head = ["", "PSNR before, dB", "after", "SSIM before", "after"].map(str::to_owned).to_vec();
    let mut table = vec![head];
    // A video has thousands; its mean says enough.
    if rows.len() <= 40 {
        table.extend(rows.iter().map(|r| line(&r.name, r.psnr, r.ssim)));
    }
    if !rows.is_empty() {
        let (psnr, ssim) = means(rows);
        table.push(line(&format!("mean of {}", rows.len()), psnr, ssim));
    }
    format!("{}PSNR {PSNR}\nSSIM {SSIM}", table::render(&table, &[1, 2, 3, 4]))
}

/// The same for programs. JSON knows no infinity: the PSNR of equal pictures is null.
pub fn to_json(rows: &[Row]) -> Value {
    let finite = |v: f64| v.is_finite().then_some(v);
    let one = |psnr: [f64; 2], ssim: Option<[f64; 2]>| {
        json!({
            "psnr_before": finite(psnr[0]), "psnr_after": finite(psnr[1]),
            "ssim_before": ssim.map(|s| s[0]), "ssim_after": ssim.map(|s| s[1]),
        })
    };
    let mean = (!rows.is_empty()).then(|| means(rows)).map(|(psnr, ssim)| one(psnr, ssim));
    let frames: Vec<Value> = rows
        .iter()
        .map(|r| {
            let mut value = one(r.psnr, r.ssim);
            value["name"] = json!(r.name);
            value
        })
        .collect();
    json!({"psnr": PSNR, "ssim": SSIM, "mean": mean, "frames": frames})
}
