//! A model as stages run it: regions of a picture in, outputs per region out.

use std::sync::Arc;

use tapetum_runtime::{
    Error, Image, Rect, Result, Tensor,
    backend::Profile,
    contract::{Contract, OutputContract},
    preprocess::{Placement, Preprocess},
};

use super::Engine;
use crate::recorder::Recorder;

/// One worker's loaded model with its scratch memory.
pub struct Net {
    /// The model's contract.
    pub contract: Contract,
    preprocess: Preprocess,
    engine: Engine,
    input: Vec<Tensor>,
    outputs: Vec<Tensor>,
    placements: Vec<Placement>,
    /// Whether the model takes several regions in one run.
    open_batch: bool,
    /// Index of the output that the stage reads.
    output: usize,
    /// Told of every input.
    recorder: Option<Arc<Recorder>>,
}

/// One region's share of an output.
pub struct Output<'a> {
    /// Index of the region.
    pub region: usize,
    /// Where the region lies in the network's input.
    pub placement: &'a Placement,
    /// The output's shape without the batch.
    pub shape: &'a [usize],
    /// Row-major.
    pub values: &'a [f32],
    /// Every output of the run, for all its regions together, in the order of the model's ports.
    pub all: &'a [Tensor],
}

impl Net {
    /// The stage will read the first output that `reads` accepts.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the contract and the model's ports differ.
    pub fn new(engine: Engine, contract: &Contract, reads: impl Fn(&OutputContract) -> bool) -> Result<Self> {
        contract.check_ports(engine.inputs(), engine.outputs())?;
        let wanted = contract.outputs.iter().find(|o| reads(o));
        let output = wanted.and_then(|o| engine.outputs().iter().position(|p| p.name == o.name));
        let output =
            output.ok_or_else(|| Error::bad_file("the model has no output of the kind it is used for"))?;
        let open_batch = engine.inputs().first().is_some_and(|p| p.shape.first() == Some(&None));
        Ok(Self {
            preprocess: Preprocess::new(&contract.input)?,
            contract: contract.clone(),
            engine,
            input: vec![Tensor::full(&[0], 0f32)],
            outputs: Vec::new(),
            placements: Vec::new(),
            open_batch,
            output,
            recorder: None,
        })
    }

    /// From now on `recorder` is told of every input.
    pub fn record(&mut self, recorder: Arc<Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Index of the output called `name`, for [`Output::all`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.engine.outputs().iter().position(|port| port.name == name)
    }

    /// The shapes that the engine was built for, if it takes no others.
    pub fn profile(&self) -> Option<&Profile> {
        self.engine.profile()
    }

    /// The (height, width) that the graph gets for a region of `width × height`.
    ///
    /// # Errors
    /// As [`Preprocess::input_size`].
    pub fn input_size(&self, width: usize, height: usize) -> Result<(usize, usize)> {
        self.preprocess.input_size(width, height)
    }

    /// Runs the model on every region of `image`, several at once where their inputs have one size, and hands `take`
    /// each region's output in order.
    ///
    /// # Errors
    /// The first that preparing, running or `take` gives.
    pub fn each(
        &mut self,
        image: &Image,
        regions: &[Rect],
        mut take: impl FnMut(Output<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut from = 0;
        let batch = if self.open_batch { self.engine.batch().max(1) } else { 1 };
        while from < regions.len() {
            let size = self.preprocess.input_size(regions[from].width, regions[from].height)?;
            let mut to = from + 1;
            while to < regions.len()
                && to - from < batch
                && self.preprocess.input_size(regions[to].width, regions[to].height)? == size
            {
                to += 1;
            }
            self.run(image, &regions[from..to], size)?;
            self.hand_out(from, to - from, &mut take)?;
            from = to;
        }
        Ok(())
    }

    fn run(&mut self, image: &Image, regions: &[Rect], (height, width): (usize, usize)) -> Result<()> {
        let channels = self.preprocess.channels();
        let input = self.input[0].reset::<f32>(&[regions.len(), channels, height, width]);
        self.placements.clear();
        for (region, out) in regions.iter().zip(input.chunks_exact_mut(channels * height * width)) {
            self.placements.push(self.preprocess.run(image, *region, out)?);
        }
        if let Some(recorder) = &self.recorder {
            recorder.take(&self.input[0])?;
        }
        self.engine.run_into(&self.input, &mut self.outputs)
    }

    fn hand_out(
        &self,
        first: usize,
        count: usize,
        take: &mut impl FnMut(Output<'_>) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.outputs.get(self.output);
        let tensor =
            tensor.ok_or_else(|| Error::internal("the engine gave fewer outputs than the model has"))?;
        let values = tensor.f32s()?;
        let shape = match tensor.shape() {
            [n, shape @ ..] if *n == count => shape,
            other => {
                let message = format!("the model gave an output of {other:?} for {count} regions");
                return Err(Error::bad_input(message));
            }
        };
        let each = values.len() / count;
        for (n, placement) in self.placements.iter().enumerate() {
            let values = &values[n * each..(n + 1) * each];
            take(Output { region: first + n, placement, shape, values, all: &self.outputs })?;
        }
        Ok(())
    }
}
