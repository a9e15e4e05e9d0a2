//! Which shapes a pipeline will feed to a model, known before the first frame.

use tapetum_runtime::{
    Result,
    backend::Profile,
    contract::{Contract, SizePolicy},
};

use crate::config::{PipelineFile, StageSpec};

/// Most regions of one frame in one run of a model.
pub const BATCH: usize = 8;

/// Heights and widths, in pixels, from the least to the greatest of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Least (height, width).
    pub least: (usize, usize),
    /// Greatest (height, width).
    pub most: (usize, usize),
}

/// What model `at` of `file` will be fed, over all its stages and its golden record; `None` if nothing bounds it: a
/// network of any size that gets frames as they come.
///
/// # Errors
/// What a stage says of a contract that does not suit it.
pub fn profile(file: &PipelineFile, at: usize, contract: &Contract) -> Result<Option<Profile>> {
    let input = &contract.input;
    let shape = |batch: usize, (height, width)| [batch, input.colour.channels(), height, width];
    let mut all: Option<Profile> = None;
    for stage in file.stages.iter().filter(|s| s.model == Some(at)) {
        let Some(sizes) = sizes(stage, contract)? else { return Ok(None) };
        let batch = stage.crop.as_ref().map_or(1, |crop| crop.most.min(BATCH));
        let (least, most) = (shape(1, sizes.least), shape(batch, sizes.most));
        let one = Profile::new(&input.name, &least, &shape(1, sizes.most), &most)?;
        all = Some(match all {
            Some(profile) => profile.with(&one),
            None => one,
        });
    }
    let golden = contract.golden.as_ref().map(|golden| golden.input_shape.as_slice());
    match (all, golden) {
        (Some(profile), Some(golden)) if golden.len() == profile.least().len() => {
            let golden = Profile::new(&input.name, golden, golden, golden)?;
            // The self-check is one run: it widens the shapes, and changes nothing in what is tuned for.
            let usual = profile.usual().to_vec();
            let wide = profile.with(&golden);
            Profile::new(&input.name, wide.least(), &usual, wide.most()).map(Some)
        }
        (profile, _) => Ok(profile),
    }
}

fn sizes(stage: &StageSpec, contract: &Contract) -> Result<Option<Sizes>> {
    if let SizePolicy::Fixed { height, width } = contract.input.size {
        return Ok(Some(Sizes { least: (height, width), most: (height, width) }));
    }
    if let Some(sizes) = stage.plan.sizes(contract)? {
        return Ok(Some(sizes));
    }
    Ok(match contract.input.size {
        SizePolicy::Range { min_height, min_width, max_height, max_width, .. } => {
            Some(Sizes { least: (min_height, min_width), most: (max_height, max_width) })
        }
        _ => None,
    })
}
