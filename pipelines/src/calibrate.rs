//! What a model is calibrated with and judged by: the inputs that it really gets.
//!
//! In a pipeline those are crops of what earlier stages found, so the pipeline itself runs, in fp32, with a [`Recorder`]
//! at every model. A model alone gets whole frames.

use std::sync::Arc;

use tapetum_runtime::{
    Error, ErrorKind, Frame, Result, Tensor, contract::InputContract, preprocess::Preprocess,
};

use crate::{
    assemble::Options,
    config::{PipelineFile, PrecisionChoice},
    flow::Policy,
    recorder::Recorder,
    source::{Next, Source},
};

/// Inputs that are usually kept of a model: half of them calibrate, the other half judges.
pub const USUAL: usize = 64;

/// Bytes of inputs that are kept at once, of all models together.
const MOST_BYTES: usize = 512 << 20;

/// Unreadable frames after which a source is given up.
const MOST_UNREADABLE: usize = 1000;

/// The inputs of one model.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Evenly spread over the run; for each the model's inputs, of which a pipeline's model has one, `[1, …]`.
    pub inputs: Vec<Vec<Tensor>>,
    /// How often it ran in all: once per region.
    pub runs: u64,
}

/// A recorder for each model of `file`, which together keep at most 512 MiB; `most` inputs of each.
pub fn recorders(file: &PipelineFile, most: usize) -> Vec<Arc<Recorder>> {
    let each = MOST_BYTES / file.models.len().max(1);
    file.models.iter().map(|_| Arc::new(Recorder::new(most, each))).collect()
}

/// `options` for the run that records: fp32, and one frame after the other, so that the same source leaves the same
/// inputs in the same order.
pub fn recording(options: &Options, recorders: &[Arc<Recorder>]) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Options {
        precision: Some(PrecisionChoice::Fp32),
        workers: Some(1),
        threads: Some(cores),
        queue: Some(Policy::Block),
        recorders: recorders.to_vec(),
        ..options.clone()
    }
}

/// What the recorders kept, in the order of the models.
pub fn recorded(recorders: &[Arc<Recorder>]) -> Vec<Recorded> {
    recorders.iter().map(|r| of_recorder(r)).collect()
}

fn of_recorder(recorder: &Recorder) -> Recorded {
    Recorded {
        runs: recorder.seen(),
        inputs: recorder.take_out().into_iter().map(|input| vec![input]).collect(),
    }
}

/// The inputs that a model of `contract` alone gets for the frames of `source`: each whole, at most `most`.
///
/// # Errors
/// The source's; [`ErrorKind::BadInput`] if no frame could be read or a frame cannot become an input.
pub fn of_frames(contract: &InputContract, source: &mut dyn Source, most: usize) -> Result<Recorded> {
    let mut preprocess = Preprocess::new(contract)?;
    let recorder = Recorder::new(most, MOST_BYTES);
    let (mut frame, mut input) = (Frame::default(), Tensor::vector(Vec::<f32>::new()));
    let mut unreadable = 0;
    loop {
        match source.next(&mut frame)? {
            Next::End => break,
            Next::Idle => {}
            Next::Unreadable(why) => {
                unreadable += 1;
                if unreadable == MOST_UNREADABLE {
                    return Err(why.at(format!("{unreadable} frames could not be read, the last one")));
                }
            }
            Next::Frame => {
                let image = &frame.image;
                let (height, width) = preprocess.input_size(image.width(), image.height())?;
                let values = input.reset::<f32>(&[1, preprocess.channels(), height, width]);
                preprocess.run(image, image.rect(), values)?;
                recorder.take(&input)?;
            }
        }
    }
    if recorder.seen() == 0 {
        let message = format!("{}: not a single frame could be read", source.info().name);
        return Err(Error::new(ErrorKind::BadInput, message));
    }
    Ok(of_recorder(&recorder))
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::contract::{Colour, Filter, PadRule, ResizeRule, SizePolicy};

    use super::*;

    #[test]
    fn whole_frames_are_made_by_the_contract() {
        let contract = InputContract {
            name: "image".into(),
            size: SizePolicy::Fixed { height: 8, width: 12 },
            resize: ResizeRule::Stretch { filter: Filter::Bilinear },
            colour: Colour::Rgb,
            scale: 1.0 / 255.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            pad: PadRule::None,
        };
        let mut source = crate::source::open("synthetic:noise?frames=9&size=32x32").unwrap();
        let recorded = of_frames(&contract, &mut *source, 4).unwrap();
        assert_eq!((recorded.runs, recorded.inputs.len()), (9, 4));
        for input in recorded.inputs.iter().flatten() {
            assert_eq!(input.shape(), [1, 3, 8, 12]);
            assert!(input.f32s().unwrap().iter().all(|v| (0.0..=1.0).contains(v)));
        }
        assert_ne!(recorded.inputs[0], recorded.inputs[3]);
    }
}
