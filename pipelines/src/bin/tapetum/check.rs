//! `tapetum check`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::{
    config::{ModelChange, PipelineFile, StageSpec},
    site::config::SiteFile,
};
use tapetum_runtime::Result;

use crate::{play, print_json, table};

/// Arguments of `tapetum check`.
#[derive(ClapArgs)]
pub struct Args {
    /// The pipeline file, or a site's.
    #[arg(value_name = "FILE")]
    pipeline: PathBuf,
    /// Another file for one of its models; may be given several times.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = play::parse_model)]
    models: Vec<ModelChange>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Needs no source and no engine. All mistakes are told at once.
pub fn run(args: &Args) -> Result<()> {
    if SiteFile::is_one(&args.pipeline) {
        return site(args);
    }
    let file = PipelineFile::read_with(&args.pipeline, &args.models)?;
    let model = |stage: &StageSpec| stage.model.map(|at| file.models[at].name.clone());
    if args.json {
        let stages: Vec<_> = file
            .stages
            .iter()
            .map(|s| json!({"name": s.name, "kind": s.kind.name, "model": model(s), "labels": s.labels}))
            .collect();
        return print_json(&json!({"pipeline": file.name, "stages": stages}));
    }
    println!("{}: pipeline {:?} is sound", args.pipeline.display(), file.name);
    let rows: Vec<_> = file
        .stages
        .iter()
        .map(|s| {
            let network =
                s.model.and_then(|at| file.models[at].contract.as_ref()).map(|c| c.network.name.clone());
            let mut conditions = Vec::new();
            if let Some(when) = &s.when {
                let of = &file.stages[when.stage];
                let classes: Vec<&str> = when.classes.iter().map(|&c| of.labels[c].as_str()).collect();
                conditions.push(format!("when {} is {}", of.name, classes.join(" or ")));
            }
            if let Some(crop) = &s.crop {
                conditions.push(format!("on boxes of {}", file.stages[crop.stage].name));
            }
            if s.every > 1 {
                conditions.push(format!("every {} frames", s.every));
            }
            vec![s.name.clone(), s.kind.name.to_owned(), network.unwrap_or_default(), conditions.join(", ")]
        })
        .collect();
    print!("{}", table::render(&rows, &[]));
    Ok(())
}

/// The cameras of a site, with what looks at them.
fn site(args: &Args) -> Result<()> {
    let file = SiteFile::read(&args.pipeline)?;
    if args.json {
        let cameras: Vec<_> = file
            .cameras
            .iter()
            .map(|c| json!({"name": c.name, "pipeline": c.pipeline.name, "events": c.events.is_some(), "record": c.record.is_some()}))
            .collect();
        let outputs: Vec<_> = file.outputs.iter().map(|output| &output.name).collect();
        return print_json(&json!({"site": file.name, "cameras": cameras, "outputs": outputs}));
    }
    println!("{}: site {:?} is sound", args.pipeline.display(), file.name);
    let rows: Vec<_> = file
        .cameras
        .iter()
        .map(|c| {
            let events = c.events.as_ref().map(|events| match &events.labels[..] {
                [] => "events of every label".to_owned(),
                labels => format!("events of {}", labels.join(", ")),
            });
            let recorded = if c.record.is_some() { "recorded" } else { "" };
            let pipeline = format!("pipeline {}", c.pipeline.name);
            vec![c.name.clone(), pipeline, events.unwrap_or_default(), recorded.to_owned()]
        })
        .collect();
    print!("{}", table::render(&rows, &[]));
    if file.cameras.iter().any(|camera| camera.record.is_some()) {
        println!("recordings in {}, at most {} MiB", file.media.dir.display(), file.media.most >> 20);
    }
    for output in &file.outputs {
        println!("output {}", output.name);
    }
    Ok(())
}
