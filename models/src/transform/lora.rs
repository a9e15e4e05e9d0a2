//! Low-rank adapters are added to the weights they adapt.

use std::collections::BTreeMap;

use tapetum_runtime::{Error, Result, Tensor};

use super::Tensors;

/// Prefix that PEFT puts before every name.
const PEFT: &str = "base_model.model.";
/// Names this alike are offered when a base tensor is missing.
const ALIKE: f64 = 0.7;

/// One adapter that was added.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The tensor it went into.
    pub tensor: String,
    /// Its rank r.
    pub rank: usize,
    /// α / r.
    pub scale: f64,
}

/// α in the metadata that came with an adapter (`lora_alpha`, as PEFT's `adapter_config.json` calls it, or
/// `ss_network_alpha`).
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if it is there and not a number.
pub fn alpha_of(metadata: &BTreeMap<String, String>) -> Result<Option<f64>> {
    let Some((key, text)) =
        ["lora_alpha", "ss_network_alpha"].iter().find_map(|k| metadata.get_key_value(*k))
    else {
        return Ok(None);
    };
    let alpha = text.trim().parse::<f64>().ok().filter(|a| a.is_finite());
    alpha.map(Some).ok_or_else(|| Error::bad_file(format!("metadata {key:?} is {text:?}, not a number")))
}

/// Adds every adapter among `adapters` to its tensor in `base`.
///
/// ```text
/// W' = W + (α / r) · B · A     Linear: A [r, in], B [out, r], W [out, in]
///                              Conv:   A [r, in, kh, kw], B [out, r, 1, 1], W [out, in, kh, kw]
/// ```
///
/// In f64, rounded to f32 once. Names are PEFT's (`base_model.model.X.lora_A.weight`, also with an adapter's name
/// before `weight`) or plain (`X.lora_A`). α is a scalar `X.alpha` beside the adapter, else `alpha`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] for an adapter whose halves or shapes do not fit, whose base tensor is
/// missing (the nearest names are given), or that is of another kind (DoRA, embeddings);
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] if α is known from nowhere. Nothing is changed in either case.
///
/// Source: Hu et al., *LoRA*, arXiv:2106.09685.
pub fn merge(base: &mut Tensors, adapters: &Tensors, alpha: Option<f64>) -> Result<Vec<Merged>> {
    let mut halves: BTreeMap<&str, [Option<&Tensor>; 2]> = BTreeMap::new();
    for (name, tensor) in adapters {
        match Part::of(name) {
            Some(Part::A(module)) => halves.entry(module).or_default()[0] = Some(tensor),
            Some(Part::B(module)) => halves.entry(module).or_default()[1] = Some(tensor),
            Some(Part::Alpha) => {}
            None => {
                return Err(Error::bad_file(format!(
                    "{name:?} is no part of a plain LoRA adapter (X.lora_A, X.lora_B, X.alpha)"
                )));
            }
        }
    }
    let (mut changed, mut report) = (Tensors::new(), Vec::new());
    for (module, parts) in halves {
        let [Some(a), Some(b)] = parts else {
            return Err(Error::bad_file(format!("{module:?} has only one of lora_A and lora_B")));
        };
        let target = target(base, module)?;
        let own = [format!("{PEFT}{module}.alpha"), format!("{module}.alpha")];
        let own = own.iter().find_map(|n| adapters.get(n));
        let alpha = match own.map(|t| t.to_f64().unwrap_or_default()).as_deref() {
            Some([alpha]) => *alpha,
            Some(_) => return Err(Error::bad_file(format!("{module}.alpha is not one number"))),
            None => alpha.ok_or_else(|| {
                Error::config(format!(
                    "the adapter of {module:?} comes without its alpha; give it (adapter_config.json: lora_alpha)"
                ))
            })?,
        };
        let (tensor, rank) = add(&base[target], a, b, alpha).map_err(|e| e.at(module))?;
        report.push(Merged { tensor: target.to_owned(), rank, scale: alpha / rank as f64 });
        changed.insert(target.to_owned(), tensor);
    }
    base.append(&mut changed);
    Ok(report)
}

/// As [`merge`], for adapters that are in the checkpoint itself; they are taken out of it.
///
/// # Errors
/// As [`merge`].
pub fn merge_own(tensors: &mut Tensors, alpha: Option<f64>) -> Result<Vec<Merged>> {
    let modules: Vec<String> = tensors
        .keys()
        .filter_map(|name| match Part::of(name)? {
            Part::A(module) | Part::B(module) => Some(module.to_owned()),
            Part::Alpha => None,
        })
        .collect();
    let adapts = |name: &str| {
        let plain = name.strip_prefix(PEFT).unwrap_or(name);
        name.contains(".lora_")
            || plain.strip_suffix(".alpha").is_some_and(|module| modules.iter().any(|m| m == module))
    };
    let adapters: Tensors =
        tensors.iter().filter(|(n, _)| adapts(n)).map(|(n, t)| (n.clone(), t.clone())).collect();
    let report = merge(tensors, &adapters, alpha)?;
    tensors.retain(|name, _| !adapters.contains_key(name));
    Ok(report)
}

enum Part<'n> {
    A(&'n str),
    B(&'n str),
    Alpha,
}

impl<'n> Part<'n> {
    fn of(name: &'n str) -> Option<Self> {
        let plain = name.strip_prefix(PEFT).unwrap_or(name);
        if plain.ends_with(".alpha") {
            return Some(Self::Alpha);
        }
        let (module, rest) = plain.rsplit_once(".lora_")?;
        // `A`, `A.weight`, or `A.<adapter>.weight`
        let half = rest.strip_suffix(".weight").unwrap_or(rest);
        match half.split('.').collect::<Vec<_>>()[..] {
            ["A"] | ["A", _] => Some(Self::A(module)),
            ["B"] | ["B", _] => Some(Self::B(module)),
            _ => None,
        }
    }
}

/// The tensor that `module`'s adapter adapts.
fn target<'b>(base: &'b Tensors, module: &str) -> Result<&'b str> {
    let names = [format!("{module}.weight"), format!("{module}.base_layer.weight"), module.to_owned()];
    if let Some((name, _)) = names.iter().find_map(|n| base.get_key_value(n)) {
        return Ok(name);
    }
    let wanted = &names[0];
    let near = base.keys().map(|k| (strsim::jaro_winkler(k, wanted), k)).filter(|(alike, _)| *alike > ALIKE);
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = near.map_or(String::new(), |(_, k)| format!("; did you mean {k:?}?"));
    Err(Error::bad_file(format!("there is an adapter for {module:?}, but no tensor {wanted:?}{hint}")))
}

/// W + (α / r) · B · A, and r.
fn add(weight: &Tensor, a: &Tensor, b: &Tensor, alpha: f64) -> Result<(Tensor, usize)> {
    let (sw, sa, sb) = (weight.shape(), a.shape(), b.shape());
    let misfit = |why: &str| Error::bad_file(format!("{why}: weight {sw:?}, lora_A {sa:?}, lora_B {sb:?}"));
    let (&[out, ref inner @ ..], &[rank, ref inner_a @ ..], &[out_b, rank_b, ref points @ ..]) = (sw, sa, sb)
    else {
        return Err(misfit("the adapter's shapes are no matrices"));
    };
    if rank != rank_b || rank == 0 {
        return Err(misfit("the two halves differ in rank"));
    }
    let pointwise = points.iter().all(|&d| d == 1) && sb.len() == sw.len();
    if inner.is_empty() || inner != inner_a || out != out_b || !pointwise {
        return Err(misfit("the adapter does not fit its tensor"));
    }
    let floats = |t: &Tensor| t.to_f64().ok_or_else(|| misfit("not floating-point numbers"));
    let (mut sum, a, b) = (floats(weight)?, floats(a)?, floats(b)?);
    let (scale, row) = (alpha / rank as f64, inner.iter().product::<usize>());
    for (o, w) in sum.chunks_exact_mut(row.max(1)).enumerate() {
        for (r, a) in a.chunks_exact(row.max(1)).enumerate() {
            let factor = scale * b[o * rank + r];
            w.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
        }
    }
    Ok((Tensor::new(sw, sum.into_iter().map(|v| v as f32).collect())?, rank))
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::ErrorKind;
    use tapetum_runtime::seed::Seeded;

    use super::*;

    fn tensor(seed: u64, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::new(shape, Seeded::new(seed).vec(n, -1.0, 1.0)).unwrap()
    }

    fn base() -> Tensors {
        Tensors::from([
            ("net.attn.q.weight".into(), tensor(1, &[4, 3])),
            ("net.attn.q.bias".into(), tensor(2, &[4])),
            ("net.conv.weight".into(), tensor(3, &[4, 2, 3, 3])),
        ])
    }

    fn value(t: &Tensor, i: usize) -> f64 {
        f64::from(t.f32s().unwrap()[i])
    }

    #[test]
    fn a_linear_adapter_in_pefts_names() {
        let (mut after, before) = (base(), base());
        let (a, b) = (tensor(4, &[2, 3]), tensor(5, &[4, 2]));
        let adapters = Tensors::from([
            ("base_model.model.net.attn.q.lora_A.weight".into(), a.clone()),
            ("base_model.model.net.attn.q.lora_B.default.weight".into(), b.clone()),
        ]);
        let report = merge(&mut after, &adapters, Some(6.0)).unwrap();
        assert_eq!(report, [Merged { tensor: "net.attn.q.weight".into(), rank: 2, scale: 3.0 }]);
        for (o, i) in (0..4).flat_map(|o| (0..3).map(move |i| (o, i))) {
            let delta: f64 = (0..2).map(|r| value(&b, o * 2 + r) * value(&a, r * 3 + i)).sum();
            let want = value(&before["net.attn.q.weight"], o * 3 + i) + 3.0 * delta;
            let got = value(&after["net.attn.q.weight"], o * 3 + i);
            assert!((got - want).abs() <= f64::from(f32::EPSILON) * want.abs(), "{got} {want}");
        }
        assert_eq!(after["net.conv.weight"], before["net.conv.weight"]);
    }

    #[test]
    fn a_convolution_in_the_file_itself_with_its_own_alpha() {
        let mut tensors = base();
        let (a, b) = (tensor(6, &[3, 2, 3, 3]), tensor(7, &[4, 3, 1, 1]));
        tensors.insert("net.conv.lora_A".into(), a.clone());
        tensors.insert("net.conv.lora_B".into(), b.clone());
        tensors.insert("net.conv.alpha".into(), Tensor::scalar(1.5f32));
        tensors.insert("other.alpha".into(), Tensor::scalar(9f32));
        let before = tensors["net.conv.weight"].clone();
        merge_own(&mut tensors, Some(99.0)).unwrap();
        let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        assert_eq!(names, ["net.attn.q.bias", "net.attn.q.weight", "net.conv.weight", "other.alpha"]);
        for at in 0..4 * 18 {
            let (o, i) = (at / 18, at % 18);
            let delta: f64 = (0..3).map(|r| value(&b, o * 3 + r) * value(&a, r * 18 + i)).sum();
            let want = value(&before, at) + 0.5 * delta;
            assert!((value(&tensors["net.conv.weight"], at) - want).abs() < 1e-7);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_changes() {
        let pair = |module: &str, a: &[usize], b: &[usize]| {
            Tensors::from([
                (format!("{module}.lora_A"), tensor(8, a)),
                (format!("{module}.lora_B"), tensor(9, b)),
            ])
        };
        let cases = [
            (pair("net.attn.q", &[2, 3], &[4, 3]), "differ in rank"),
            (pair("net.attn.q", &[2, 4], &[4, 2]), "does not fit"),
            (pair("net.attn.q", &[2, 3], &[5, 2]), "does not fit"),
            (pair("net.conv", &[2, 2, 3, 3], &[4, 2, 3, 3]), "does not fit"),
            (pair("net.conv", &[6, 6], &[12, 6]), "does not fit"),
            (pair("net.attn.k", &[2, 3], &[4, 2]), "did you mean \"net.attn.q.weight\"?"),
            (Tensors::from([("net.attn.q.lora_A".into(), tensor(1, &[2, 3]))]), "only one of"),
            (Tensors::from([("net.attn.q.lora_magnitude_vector".into(), tensor(1, &[4]))]), "no part"),
        ];
        for (adapters, message) in cases {
            let mut tensors = base();
            let error = merge(&mut tensors, &adapters, Some(1.0)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadFile, "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(tensors, base());
        }
    }

    #[test]
    fn alpha_has_to_come_from_somewhere() {
        let adapters = Tensors::from([
            ("net.attn.q.lora_A".into(), tensor(4, &[2, 3])),
            ("net.attn.q.lora_B".into(), tensor(5, &[4, 2])),
        ]);
        assert_eq!(merge(&mut base(), &adapters, None).unwrap_err().kind(), ErrorKind::InvalidConfig);
        let metadata = |v: &str| BTreeMap::from([("lora_alpha".to_owned(), v.to_owned())]);
        assert_eq!(alpha_of(&metadata("16")).unwrap(), Some(16.0));
        assert_eq!(alpha_of(&BTreeMap::new()).unwrap(), None);
        assert!(alpha_of(&metadata("much")).is_err());
    }
}
