//! `tapetum verify`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum_models::verify::{Verified, verify};
use tapetum_runtime::Result;

use crate::print_json;
use crate::progress::Spinner;

/// Arguments of `tapetum verify`.
#[derive(ClapArgs)]
pub struct Args {
    /// A model that `tapetum fuse` wrote.
    model: PathBuf,
    /// Its checkpoint: run the whole proof again instead of the golden self-check alone.
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// Engine to run on.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let spinner = Spinner::new(args.json);
    spinner.say("running the model");
    let Verified { engine, golden, proof, .. } =
        verify(&args.model, args.against.as_deref(), args.engine.as_deref(), &mut |done, of| {
            spinner.say(format!("proving: run {} of {of}", (done + 1).min(of)));
        })?;
    spinner.done();
    if args.json {
        let proof = proof.map(|f| json!({"max_abs": f.max_abs(), "max_rel": f.max_rel(), "backend": engine}));
        return print_json(
            &json!({"model": args.model, "engine": engine, "golden_error": golden, "proof": proof}),
        );
    }
    println!("{}: golden self-check holds on {engine} (error {golden:.2e})", args.model.display());
    if let (Some(f), Some(against)) = (proof, &args.against) {
        println!(
            "both forms agree with {}: max |difference| {:.2e} (relative {:.2e})",
            against.display(),
            f.max_abs(),
            f.max_rel()
        );
    }
    Ok(())
}
