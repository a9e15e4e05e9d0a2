//! `tapetum init`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum_models::zoo::{self, Weights};
use tapetum_models::{checkpoint, cost};
use tapetum_runtime::{Error, Result};

use crate::progress::Spinner;
use crate::{print_json, table};

/// Arguments of `tapetum init`.
#[derive(ClapArgs)]
pub struct Args {
    /// Network family; leave out to list them all.
    network: Option<String>,
    /// Published variant; the family's first if left out.
    #[arg(long)]
    variant: Option<String>,
    /// The same seed gives the same weights, on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The .safetensors file to write.
    #[arg(short, long, required_unless_present = "list")]
    output: Option<PathBuf>,
    /// List families and variants.
    #[arg(long)]
    list: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let (Some(name), Some(output), false) = (&args.network, &args.output, args.list) else {
        return list(args.json);
    };
    let known = || zoo::FAMILIES.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
    let family = zoo::FAMILIES
        .iter()
        .find(|f| f.name() == name)
        .ok_or_else(|| Error::config(format!("unknown network {name:?}; known are {}", known())))?;
    let variants = family.variants();
    let variant = args.variant.as_ref().or(variants.first()).cloned().unwrap_or_default();
    let spinner = Spinner::new(args.json);
    spinner.say(format!("making {name} {variant} up"));
    let network = family.variant(&variant)?;
    let mut weights = Weights::seeded(args.seed);
    let graph = network.build(&mut weights, network.default_size())?;
    let Weights::Seeded { made, .. } = weights else {
        return Err(Error::internal("seeded weights changed kind"));
    };
    let metadata = BTreeMap::from([
        ("network".to_owned(), format!("{name} {variant}")),
        ("seed".to_owned(), args.seed.to_string()),
    ]);
    checkpoint::write_safetensors(output, &made, &metadata)?;
    spinner.done();
    let shapes: Vec<Vec<usize>> =
        graph.inputs.iter().map(|v| v.dims.iter().map(|d| d.fixed().unwrap_or(1)).collect()).collect();
    let (parameters, macs) = (graph.parameters(), cost::cost(&graph, &shapes).macs);
    if args.json {
        return print_json(&json!({
            "network": name, "variant": variant, "seed": args.seed, "tensors": made.len(),
            "parameters": parameters, "macs": macs, "output": output,
        }));
    }
    println!(
        "{}: {name} {variant} in training form from seed {}, {} tensors, {} parameters",
        output.display(),
        args.seed,
        made.len(),
        table::thousands(parameters)
    );
    Ok(())
}

fn list(as_json: bool) -> Result<()> {
    if as_json {
        let all: serde_json::Map<_, _> =
            zoo::FAMILIES.iter().map(|f| (f.name().to_owned(), json!(f.variants()))).collect();
        return print_json(&json!(all));
    }
    let row = |f: &&dyn zoo::Family| vec![f.name().to_owned(), f.variants().join(", ")];
    print!("{}", table::render(&zoo::FAMILIES.iter().map(row).collect::<Vec<_>>(), &[]));
    Ok(())
}
