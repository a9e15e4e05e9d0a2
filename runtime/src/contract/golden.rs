//! A few values that a model gave when it was made, to be checked wherever it is loaded.
//!
//! The input is not stored: it is drawn from a seed by [`input`], which is frozen. Of each output some values at drawn
//! places are, which is enough to notice another network, a mixed-up cache or an engine that computes wrongly.

use serde::{Deserialize, Serialize};

use crate::{Data, Error, ErrorKind, Result, Tensor, backend::Session, seed::Seeded};

/// Values kept of one output, at most.
const SAMPLES: usize = 64;

/// Largest number of elements of a golden input: 64 Mi, so that a hostile contract cannot take all memory.
const MOST_ELEMENTS: usize = 64 << 20;

/// What a model gives for the input drawn from a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// For [`input`].
    pub seed: u64,
    /// For [`input`].
    pub input_shape: Vec<usize>,
    /// Each output of the graph.
    pub outputs: Vec<GoldenOutput>,
    /// Largest allowed `|got − value| / max(1, abs_max)`.
    pub tolerance: f32,
}

/// Some values of one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenOutput {
    /// The graph output.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its greatest absolute value.
    pub abs_max: f32,
    /// Row-major index and value; integers and booleans as numbers.
    pub samples: Vec<(u64, f32)>,
}

/// The input drawn from `seed`: `f32`, row-major, uniform in 0 to 1, with the structure that noise lacks.
///
/// Noise alone is kind to a network: every window looks the same and every mean is one half. So on shapes
/// `[N, C, H, W]` the noise is followed, per image, by four rectangles at drawn places, each of one drawn colour, then
/// one of zeros and one of ones (flat, as in black borders and blown-out light), over all channels. Each rectangle's
/// height and width are at most half of the image's and at least one pixel.
///
/// **Frozen**: deployed models store seeds, so the same seed and shape must give the same values for ever; a test holds
/// exact values.
pub fn input(seed: u64, shape: &[usize]) -> Tensor {
    let mut random = Seeded::new(seed);
    let mut values = random.vec(shape.iter().product(), 0.0, 1.0);
    if let [images, channels, height, width] = *shape
        && !values.is_empty()
    {
        for image in 0..images {
            for n in 0..6 {
                let (y, h) = span(&mut random, height);
                let (x, w) = span(&mut random, width);
                for channel in 0..channels {
                    let colour = match n {
                        4 => 0.0,
                        5 => 1.0,
                        _ => random.uniform(0.0, 1.0),
                    };
                    for row in y..y + h {
                        let at = ((image * channels + channel) * height + row) * width + x;
                        values[at..at + w].fill(colour);
                    }
                }
            }
        }
    }
    Tensor::new(shape, values).expect("as many values as the shape holds")
}

/// A drawn interval within `0..extent`: its start and its length, `1..=max(1, extent / 2)`.
fn span(random: &mut Seeded, extent: usize) -> (usize, usize) {
    let length = 1 + random.below((extent / 2).max(1) as u64) as usize;
    (random.below((extent - length + 1) as u64) as usize, length)
}

impl Golden {
    /// Keeps samples of `outputs`, which the model gave for [`input`]`(seed, input_shape)`.
    ///
    /// # Errors
    /// [`ErrorKind::ProofFailed`] if an output holds a value that is not a number: such a model is not to be deployed.
    pub fn record(
        seed: u64,
        input_shape: &[usize],
        outputs: &[(&str, &Tensor)],
        tolerance: f32,
    ) -> Result<Self> {
        let outputs = outputs.iter().enumerate().map(|(n, (name, tensor))| {
            let values = numbers(tensor);
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let message = format!("output {name:?} is {} at element {at}", values[at]);
                return Err(Error::new(ErrorKind::ProofFailed, message));
            }
            let mut places: Vec<u64> = match values.len() {
                few if few <= SAMPLES => (0..few as u64).collect(),
                many => {
                    let mut random = Seeded::new(seed ^ (n as u64 + 1));
                    (0..SAMPLES).map(|_| random.below(many as u64)).collect()
                }
            };
            places.sort_unstable();
            places.dedup();
            Ok(GoldenOutput {
                name: (*name).to_owned(),
                shape: tensor.shape().to_vec(),
                abs_max: values.iter().fold(0.0, |m, v| v.abs().max(m)),
                samples: places.into_iter().map(|at| (at, values[at as usize])).collect(),
            })
        });
        let outputs = outputs.collect::<Result<_>>()?;
        Ok(Self { seed, input_shape: input_shape.to_vec(), outputs, tolerance })
    }

    /// Runs the model on the golden input and compares; a session that computes in less than fp32 may differ by as much
    /// as that rounds. Returns the greatest `|got − value| / max(1, abs_max)`.
    ///
    /// # Errors
    /// [`ErrorKind::ProofFailed`] if the model gives something else than when it was made, naming the output, the
    /// element, both values and the tolerance; [`ErrorKind::BadFile`] if it has no such output; what the session says
    /// if it fails.
    pub fn check(&self, session: &mut dyn Session) -> Result<f32> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(Error::bad_file(format!("golden: {}", problems.join("; "))));
        }
        let got = session.run(&[input(self.seed, &self.input_shape)]).map_err(|e| e.at("golden check"))?;
        let mut worst = 0f32;
        let allowed = self.tolerance.max(session.precision().tolerance());
        for want in &self.outputs {
            let at = session.outputs().iter().position(|p| p.name == want.name);
            let tensor = at.and_then(|at| got.get(at)).ok_or_else(|| {
                Error::bad_file(format!("golden check: the model has no output {:?}", want.name))
            })?;
            let differs = |what: String| {
                let message =
                    format!("golden check: output {:?} {what}: not the model that was made", want.name);
                Error::new(ErrorKind::ProofFailed, message)
            };
            if tensor.shape() != want.shape {
                return Err(differs(format!("is {:?}, was {:?}", tensor.shape(), want.shape)));
            }
            let values = numbers(tensor);
            for &(at, value) in &want.samples {
                let got = values[at as usize];
                let error = (got - value).abs() / want.abs_max.max(1.0);
                if error.is_nan() || error > allowed {
                    return Err(differs(format!(
                        "is {got} at element {at}, was {value} (tolerance {allowed:e})"
                    )));
                }
                worst = worst.max(error);
            }
        }
        Ok(worst)
    }

    /// What cannot be right in the record itself.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        match count(&self.input_shape) {
            Some(1..=MOST_ELEMENTS) => {}
            _ => problems.push(format!("an input of {:?} is empty or too large", self.input_shape)),
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            problems.push(format!("a tolerance of {} holds nothing", self.tolerance));
        }
        if self.outputs.iter().all(|o| o.samples.is_empty()) {
            problems.push("there are no samples".to_owned());
        }
        for output in &self.outputs {
            let len = count(&output.shape).unwrap_or(0) as u64;
            if output.samples.iter().any(|&(at, value)| at >= len || !value.is_finite())
                || !output.abs_max.is_finite()
            {
                problems
                    .push(format!("output {:?} has a sample outside of its shape or no number", output.name));
            }
        }
        problems
    }
}

/// The elements as `f32`, whatever they are.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    match tensor.data() {
        Data::F32(v) => v.clone(),
        Data::F64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::I8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Data::I16(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Data::I32(v) => v.iter().map(|&x| x as f32).collect(),
        Data::I64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Data::U16(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Data::U32(v) => v.iter().map(|&x| x as f32).collect(),
        Data::U64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
    }
}
