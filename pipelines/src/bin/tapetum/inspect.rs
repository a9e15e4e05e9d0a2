//! `tapetum inspect`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use tapetum_models::inspect::{self, CheckpointView, ModelView, View};
use tapetum_runtime::Result;
use tapetum_runtime::contract::Contract;

use crate::{print_json, table};

/// Arguments of `tapetum inspect`.
#[derive(ClapArgs)]
pub struct Args {
    /// A checkpoint or an ONNX model; told apart by content.
    file: PathBuf,
    /// List every tensor (checkpoint) or node (model).
    #[arg(short, long)]
    all: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    match inspect::inspect(&args.file)? {
        View::Checkpoint(view) if args.json => print_json(&checkpoint_json(&view)),
        View::Model(view) if args.json => print_json(&model_json(&view)),
        View::Checkpoint(view) => {
            print_checkpoint(&args.file, &view, args.all);
            Ok(())
        }
        View::Model(view) => {
            print_model(&args.file, &view, args.all);
            Ok(())
        }
    }
}

fn checkpoint_json(view: &CheckpointView) -> Value {
    let tensors: Vec<_> = view
        .tensors
        .iter()
        .map(|(name, dtype, shape)| json!({"name": name, "dtype": dtype.name(), "shape": shape}))
        .collect();
    let o = &view.origin;
    let network = match &view.network {
        Ok(n) => json!({
            "network": n.description.network,
            "variant": n.description.variant,
            "form": n.description.form.name(),
            "details": n.description.details.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "parameters_before": n.parameters[0],
            "parameters_after": n.parameters[1],
            "macs_before": n.costs[0].macs,
            "macs_after": n.costs[1].macs,
            "input_shape": n.input_shape,
            "folds": n.folds,
        }),
        Err(e) => json!({"not_recognised": e.to_string()}),
    };
    json!({
        "kind": "checkpoint",
        "format": o.format.to_string(),
        "wrapper": o.wrapper,
        "prefix": o.prefix,
        "sha256": o.sha256,
        "bytes": o.bytes,
        "metadata": o.metadata,
        "tensors": tensors,
        "network": network,
    })
}

fn print_checkpoint(file: &Path, view: &CheckpointView, all: bool) {
    let o = &view.origin;
    let values: u64 = view.tensors.iter().map(|(_, _, s)| s.iter().product::<usize>() as u64).sum();
    println!("{}: {}, {}, sha256 {}", file.display(), o.format, table::bytes(o.bytes), &o.sha256);
    let mut found = vec![
        format!("{} tensors", view.tensors.len()),
        format!("{} values", table::thousands(values)),
        o.dtypes.iter().map(|(d, n)| format!("{} × {n}", d.name())).collect::<Vec<_>>().join(", "),
    ];
    found.extend(o.wrapper.as_ref().map(|w| format!("wrapper {w:?}")));
    found.extend(o.prefix.as_ref().map(|p| format!("prefix {p:?} stripped")));
    println!("  {}", found.join("; "));
    match &view.network {
        Ok(n) => {
            let d = &n.description;
            println!("network: {} {}, {} form", d.network, d.variant, d.form.name());
            let rows: Vec<_> = d.details.iter().map(|(k, v)| vec![(*k).to_owned(), v.clone()]).collect();
            print!("{}", table::render(&rows, &[]));
            let row = |what: &str, a: String, b: String| vec![what.to_owned(), a, "→".into(), b];
            let rows = vec![
                row("parameters", table::thousands(n.parameters[0]), table::thousands(n.parameters[1])),
                row("multiply-adds", table::macs(n.costs[0].macs), table::macs(n.costs[1].macs)),
            ];
            println!("as read → deployed, input {:?}", n.input_shape);
            print!("{}", table::render(&rows, &[1, 3]));
        }
        Err(e) => println!("network: not recognised: {e}"),
    }
    if all {
        let row = |(name, dtype, shape): &(String, _, Vec<usize>)| {
            let dtype: &tapetum_runtime::DType = dtype;
            vec![name.clone(), dtype.name().to_owned(), format!("{shape:?}")]
        };
        print!("{}", table::render(&view.tensors.iter().map(row).collect::<Vec<_>>(), &[]));
    } else {
        let mut layers: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for (name, _, shape) in &view.tensors {
            let entry = layers.entry(top(name)).or_default();
            *entry = (entry.0 + 1, entry.1 + shape.iter().product::<usize>() as u64);
        }
        let mut rows = vec![vec!["layer".to_owned(), "tensors".into(), "values".into()]];
        rows.extend(
            layers.iter().map(|(n, (t, v))| vec![(*n).to_owned(), t.to_string(), table::thousands(*v)]),
        );
        print!("{}", table::render(&rows, &[1, 2]));
        println!("  (--all lists every tensor)");
    }
}

/// The first two parts of a dotted name.
fn top(name: &str) -> &str {
    name.match_indices('.').nth(1).map_or(name, |(at, _)| &name[..at])
}

fn model_json(view: &ModelView) -> Value {
    let contract = match &view.contract {
        Some(Ok(c)) => json!(c),
        Some(Err(e)) => json!({"unreadable": e.to_string()}),
        None => Value::Null,
    };
    json!({
        "kind": "model",
        "name": view.graph.name,
        "opset": view.graph.opset(),
        "bytes": view.bytes,
        "parameters": view.graph.parameters(),
        "macs": view.cost.macs,
        "macs_unknown": view.cost.unknown,
        "input_shapes": view.input_shapes,
        "inputs": view.graph.inputs.iter().map(value_json).collect::<Vec<_>>(),
        "outputs": view.graph.outputs.iter().map(value_json).collect::<Vec<_>>(),
        "operators": view.operators,
        "contract": contract,
    })
}

fn value_json(v: &tapetum_models::graph::Value) -> Value {
    json!({"name": v.name, "dtype": v.dtype.name(), "shape": v.dims.iter().map(ToString::to_string).collect::<Vec<_>>()})
}

fn print_model(file: &Path, view: &ModelView, all: bool) {
    let g = &view.graph;
    println!(
        "{}: ONNX model {:?}, opset {}, {}",
        file.display(),
        g.name,
        g.opset(),
        table::bytes(view.bytes)
    );
    let port = |kind: &str, v: &tapetum_models::graph::Value| {
        let dims: Vec<_> = v.dims.iter().map(ToString::to_string).collect();
        vec![kind.to_owned(), v.name.clone(), v.dtype.name().to_owned(), format!("[{}]", dims.join(", "))]
    };
    let mut rows: Vec<_> = g.inputs.iter().map(|v| port("input", v)).collect();
    rows.extend(g.outputs.iter().map(|v| port("output", v)));
    print!("{}", table::render(&rows, &[]));
    println!(
        "  {} parameters, {} multiply-adds at {:?}",
        table::thousands(g.parameters()),
        table::macs(view.cost.macs),
        view.input_shapes
    );
    let operators: Vec<_> = view.operators.iter().map(|(op, n)| format!("{op} × {n}")).collect();
    println!("  {} nodes: {}", g.nodes.len(), operators.join(", "));
    match &view.contract {
        None => println!("contract: none (not written by `tapetum fuse`)"),
        Some(Err(e)) => println!("contract: {e}"),
        Some(Ok(c)) => print_contract(c),
    }
    if all {
        let row = |n: &tapetum_models::graph::Node| vec![n.name.clone(), n.op.clone(), n.inputs.join(", ")];
        print!("{}", table::render(&g.nodes.iter().map(row).collect::<Vec<_>>(), &[]));
    }
}

/// The name that a value of an enum has in the contract's JSON.
fn name(value: impl serde::Serialize) -> String {
    json!(value).as_str().unwrap_or_default().replace('_', " ")
}

fn print_contract(c: &Contract) {
    let variant = c.network.variant.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    println!("contract: {}{variant}", c.network.name);
    if let Some(s) = &c.source {
        println!("  from {} ({}, {} form), sha256 {}", s.file, name(s.container), name(s.form), s.sha256);
    }
    let folds: Vec<_> = c.folds.iter().map(|(rule, n)| format!("{rule} × {n}")).collect();
    println!("  folds: {}", if folds.is_empty() { "none".to_owned() } else { folds.join(", ") });
    match &c.proof {
        None => println!("  proof: none"),
        Some(p) => println!(
            "  proof: {} at {:?}, seeds {:?}: max |difference| {:.2e}, relative {:.2e} (allowed {:.0e})",
            p.backend, p.input_shape, p.seeds, p.max_abs, p.max_rel, p.tolerance
        ),
    }
}
