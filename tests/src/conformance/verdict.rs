//! One case on one engine.

use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::{Data, Tensor};

use super::{Case, Form};

/// Of each value, as a share of itself. ONNX's own runner allows ten times as much.
const RELATIVE: f64 = 1e-4;
/// Of each value, as a share of the output's largest.
const OF_LARGEST: f64 = 1e-5;

/// What came of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Everything agrees.
    Agrees,
    /// An error at load or at the first run, before anything came out.
    Refused(String),
    /// Something else came out than was recorded.
    Wrong(String),
}

/// Runs `case` in `form` on `engine`, each set of its data.
pub fn judge(case: &Case, form: Form, engine: &dyn Backend) -> Verdict {
    for (set, (_, want)) in case.data.iter().enumerate() {
        let (bytes, inputs) = case.model(form, set);
        match run(&bytes, &inputs, want, engine) {
            Verdict::Agrees => {}
            other => return other,
        }
    }
    Verdict::Agrees
}

/// Runs the model in `bytes` on `inputs` and holds what comes out against `want`.
pub fn run(bytes: &[u8], inputs: &[Tensor], want: &[Tensor], engine: &dyn Backend) -> Verdict {
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let session = engine.load(ModelSource::Bytes(bytes), &options);
    let got = match session.and_then(|mut session| session.run(inputs)) {
        Ok(got) => got,
        Err(e) => return Verdict::Refused(e.to_string()),
    };
    if got.len() != want.len() {
        return Verdict::Wrong(format!("{} outputs, {} recorded", got.len(), want.len()));
    }
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        if let Err(why) = compare(got, want) {
            return Verdict::Wrong(format!("output {at}: {why}"));
        }
    }
    Verdict::Agrees
}

/// Shape and type must be equal, integers and booleans too; floats may differ by rounding.
fn compare(got: &Tensor, want: &Tensor) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
        let show = |t: &Tensor| format!("{} {:?}", t.dtype().name(), t.shape());
        return Err(format!("{}, recorded is {}", show(got), show(want)));
    }
    let (Data::F32(g), Data::F32(w)) = (got.data(), want.data()) else {
        return if got == want {
            Ok(())
        } else {
            Err(format!("{:?}, recorded is {:?}", got.data(), want.data()))
        };
    };
    let largest = w.iter().filter(|w| w.is_finite()).fold(0f64, |m, w| m.max(f64::from(w.abs())));
    for (n, (&g, &w)) in g.iter().zip(w).enumerate() {
        let allowed = RELATIVE * f64::from(w.abs()) + OF_LARGEST * largest;
        let same = g == w || (g.is_nan() && w.is_nan());
        // An infinite `w` allows anything; only itself is right.
        let near = w.is_finite() && (f64::from(g) - f64::from(w)).abs() <= allowed;
        if !same && !near {
            return Err(format!("element {n} is {g}, recorded is {w}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_passes_and_all_else_does_not() {
        let t = |values: &[f32]| Tensor::vector(values.to_vec());
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        compare(&t(&[1.00005, 1e-6, nan, inf]), &t(&[1.0, 0.0, nan, inf])).unwrap();
        for (got, want) in [
            (t(&[1.0002]), t(&[1.0])),
            (t(&[1.0, 1e-4]), t(&[1.0, 0.0])),
            (t(&[nan]), t(&[1.0])),
            (t(&[1.0]), t(&[nan])),
            (t(&[1.0]), t(&[inf])),
            (t(&[-inf]), t(&[inf])),
            (t(&[1.0]), t(&[1.0, 1.0])),
            (Tensor::vector(vec![1i32]), Tensor::vector(vec![1i64])),
            (Tensor::vector(vec![1i64]), Tensor::vector(vec![2i64])),
        ] {
            assert!(compare(&got, &want).is_err(), "{got:?} {want:?}");
        }
    }
}
