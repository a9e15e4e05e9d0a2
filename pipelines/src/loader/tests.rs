//! An engine that gives something else than the model's golden record.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tapetum_runtime::{
    DType, ErrorKind, Tensor,
    backend::{Cores, Found, Port},
    contract::{Contract, Golden},
};

use super::*;

/// Gives 1 for whatever comes, and counts its runs.
struct One {
    runs: AtomicUsize,
}

impl Backend for &'static One {
    fn name(&self) -> &'static str {
        "one"
    }

    fn find(&self) -> Result<Found> {
        Ok(Found { version: "1".into(), providers: Vec::new(), library: None })
    }

    fn probe(&self) -> Result<String> {
        Ok("1".into())
    }

    fn load(&self, _: ModelSource<'_>, _: &LoadOptions) -> Result<Box<dyn Session>> {
        let [inputs, outputs] = ports().map(|port| vec![port]);
        Ok(Box::new(Loaded { of: self, inputs, outputs }))
    }
}

struct Loaded {
    of: &'static One,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Session for Loaded {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn placement(&self) -> &[(String, usize)] {
        &[]
    }

    fn run_into(&mut self, _: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        self.of.runs.fetch_add(1, SeqCst);
        *outputs = vec![Tensor::vector(vec![1f32])];
        Ok(())
    }
}

fn ports() -> [Port; 2] {
    let port = |name: &str, shape: &[usize]| Port {
        name: name.into(),
        dtype: DType::F32,
        shape: shape.iter().copied().map(Some).collect(),
    };
    [port("image", &[1, 3, 4, 4]), port("y", &[1])]
}

/// A loader of one model, which gave `value` when it was made.
fn loader(value: f32) -> (Loader, &'static One) {
    let [input, output] = ports();
    let mut contract = Contract::of_ports(&[input], &[output]).unwrap();
    let given = Tensor::vector(vec![value]);
    contract.golden = Some(Golden::record(1, &[1, 3, 4, 4], &[("y", &given)], 1e-5).unwrap());
    let sha256 = "0".repeat(64);
    let model = OnDisk { path: "net.onnx".into(), sha256, contract, bytes: 1, precision: None };
    let stocked = Stocked { name: "net".into(), model, min_share: None, profile: Ok(None) };
    let stock = Stock { options: EngineOptions::default(), cache: None, models: vec![stocked] };
    let one: &'static One = Box::leak(Box::new(One { runs: AtomicUsize::new(0) }));
    let backend: &'static &'static One = Box::leak(Box::new(one));
    (Loader::new(backend, Arc::new(stock), false, &mut |_| {}).unwrap(), one)
}

fn open(loader: &Loader, threads: usize) -> Result<Option<f32>> {
    let share = Share { threads, cores: Cores::Shared };
    loader.session(0, share, &mut |_| {}).map(|opened| opened.golden)
}

#[test]
fn what_failed_its_golden_record_is_never_taken_unchecked() {
    let (loader, one) = loader(2.0);
    for threads in 1..=3 {
        let error = open(&loader, threads).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProofFailed, "{threads} threads: {error}");
    }
    assert_eq!(one.runs.load(SeqCst), 3);
}

#[test]
fn what_passed_is_checked_once() {
    let (loader, one) = loader(1.0);
    assert_eq!(open(&loader, 1).unwrap(), Some(0.0));
    assert_eq!(open(&loader, 2).unwrap(), None);
    assert_eq!(one.runs.load(SeqCst), 1);
}
