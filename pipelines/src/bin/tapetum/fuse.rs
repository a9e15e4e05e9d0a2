//! `tapetum fuse`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum_models::fuse::{FuseOptions, Fused, Step, fuse};
use tapetum_models::zoo::InputSize;
use tapetum_runtime::contract::ContractOverride;
use tapetum_runtime::{Error, Result};

use crate::progress::Spinner;
use crate::{print_json, table};

/// Arguments of `tapetum fuse`.
#[derive(ClapArgs)]
pub struct Args {
    /// Checkpoint (.pt, .pth, .pk, .pth.tar, .safetensors) or ONNX file; told apart by content.
    #[arg(id = "IN")]
    input: PathBuf,
    /// The model to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Choose the architecture where names and shapes cannot.
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Fixed input size, height × width in pixels.
    #[arg(long = "input", value_name = "HxW", value_parser = parse_size, conflicts_with = "dynamic")]
    size: Option<InputSize>,
    /// Leave height and width open (the size rule is written into the contract).
    #[arg(long)]
    dynamic: bool,
    /// Preprocessing and labels that differ from the network's default.
    #[arg(long, value_name = "FILE.toml")]
    contract: Option<PathBuf>,
    /// Engine that runs the proof.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// Merge a LoRA adapter into the checkpoint first.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// α of the adapter, if its file does not say.
    #[arg(long, requires = "lora")]
    lora_alpha: Option<f64>,
    /// Replace experts with uniform routing by the mean of their weights first.
    #[arg(long)]
    average_experts: bool,
    /// List every fold with its place, and every refusal with its reason.
    #[arg(long)]
    explain: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// `512x384` → height 512, width 384.
pub fn parse_size(text: &str) -> Result<InputSize, String> {
    let wrong = || format!("{text:?} is not HxW, for example 512x512");
    let (h, w) = text.split_once(['x', 'X', '×']).ok_or_else(wrong)?;
    let (height, width) = (h.parse().map_err(|_| wrong())?, w.parse().map_err(|_| wrong())?);
    if height == 0 || width == 0 {
        return Err(format!("{text:?}: neither side may be 0"));
    }
    Ok(InputSize::Fixed { height, width })
}

pub fn run(args: &Args) -> Result<()> {
    let options = FuseOptions {
        arch: args.arch.clone(),
        size: if args.dynamic { Some(InputSize::Dynamic) } else { args.size },
        contract: args.contract.as_ref().map(read_contract).transpose()?,
        backend: args.engine.clone(),
        lora: args.lora.clone(),
        lora_alpha: args.lora_alpha,
        average_experts: args.average_experts,
    };
    let spinner = Spinner::new(args.json);
    let fused = fuse(&args.input, &args.output, &options, &mut |step| match step {
        Step::Reading(path) => spinner.say(format!("reading {}", path.display())),
        Step::Found(d) => spinner.say(format!("folding {} {}", d.network, d.variant)),
        Step::Folded(report) => spinner.say(format!("{} folds; writing", report.applied.len())),
        Step::Proving(done, of) => spinner.say(format!("proving: run {} of {of}", (done + 1).min(of))),
        Step::Written(path) => spinner.say(format!("written {}", path.display())),
    })?;
    spinner.done();
    if args.json {
        return print_json(&as_json(&fused, args));
    }
    print(&fused, args);
    Ok(())
}

fn read_contract(path: &PathBuf) -> Result<ContractOverride> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
    ContractOverride::from_toml(&text, &path.display().to_string())
}

fn as_json(f: &Fused, args: &Args) -> serde_json::Value {
    let details: serde_json::Map<_, _> =
        f.description.details.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let applied: Vec<_> = f.folds.applied.iter().map(|a| json!({"rule": a.rule, "node": a.node})).collect();
    let refused: Vec<_> =
        f.folds.refused.iter().map(|r| json!({"rule": r.rule, "node": r.node, "reason": r.reason})).collect();
    let proof = f.contract.proof.as_ref();
    let mut out = json!({
        "network": f.description.network,
        "variant": f.description.variant,
        "form": f.description.form.name(),
        "details": details,
        "parameters_before": f.parameters_before,
        "parameters_after": f.parameters_after,
        "nodes_before": f.nodes_before,
        "nodes_after": f.nodes_after,
        "macs_before": f.cost_before.macs,
        "macs_after": f.cost_after.macs,
        "input_shape": f.cost_shape,
        "folds": f.contract.folds,
        "proof": proof,
        "source": f.contract.source,
        "output": args.output,
        "bytes": f.bytes,
    });
    if args.explain {
        out["applied"] = json!(applied);
        out["refused"] = json!(refused);
    }
    out
}

fn print(f: &Fused, args: &Args) {
    let d = &f.description;
    let details: Vec<String> = d.details.iter().map(|(k, v)| format!("{k} {v}")).collect();
    println!("{}: {} {}, {} form", args.input.display(), d.network, d.variant, d.form.name());
    if !details.is_empty() {
        println!("  {}", details.join(", "));
    }
    let row = |name: &str, before: String, after: String| vec![name.into(), before, "→".into(), after];
    let rows = vec![
        row("parameters", table::thousands(f.parameters_before), table::thousands(f.parameters_after)),
        row("nodes", table::thousands(f.nodes_before as u64), table::thousands(f.nodes_after as u64)),
        row("multiply-adds", table::macs(f.cost_before.macs), table::macs(f.cost_after.macs)),
    ];
    print!("{}", table::render(&rows, &[1, 3]));
    println!("folds");
    let rows: Vec<_> =
        f.contract.folds.iter().map(|(rule, n)| vec![rule.clone(), format!("× {n}")]).collect();
    if rows.is_empty() {
        println!("  none: the file already is in deployment form");
    }
    print!("{}", table::render(&rows, &[]));
    if args.explain {
        for a in &f.folds.applied {
            println!("  + {:20} {}", a.rule, a.node);
        }
        for r in &f.folds.refused {
            println!("  - {:20} {}: {}", r.rule, r.node, r.reason);
        }
    }
    if let Some(p) = &f.contract.proof {
        let what = if f.folds.applied.is_empty() { "ran" } else { "both forms agree" };
        println!(
            "proof: {what} on {}, input {:?}, seeds {:?}: max |difference| {:.2e} (relative {:.2e}, allowed {:.0e})",
            p.backend, p.input_shape, p.seeds, p.max_abs, p.max_rel, p.tolerance
        );
    }
    println!("wrote {} ({})", args.output.display(), table::bytes(f.bytes));
}
