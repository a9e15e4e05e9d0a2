//! What is not as it was when the event was recorded.

use tapetum_runtime::backend;

use crate::{
    assemble::Pipeline,
    config::{Choice, PipelineFile},
    recording::{format::Head, read::Recording},
    tune::Machine,
};

/// The engine that ran then, if it was one and this build has it.
pub(super) fn engine(head: &Head) -> Option<Choice> {
    let mut names = head.run.models.iter().map(|model| name(&model.engine));
    let first = names.next()?;
    (names.all(|other| other == first) && backend::by_name(first).is_ok())
        .then(|| Choice::Exactly(first.to_owned()))
}

/// `ort:cpu` of `ort:cpu/fp32 (untuned)`.
fn name(engine: &str) -> &str {
    engine.split('/').next().unwrap_or(engine)
}

/// In words, a line each.
pub fn changes(recording: &Recording, file: &PipelineFile, pipeline: &Pipeline<'_>) -> Vec<String> {
    let head = &recording.summary.head;
    let mut changes = Vec::new();
    let mut changed = |what: &str, then: &str, now: &str| {
        if then != now {
            changes.push(format!("{what}: then {then}, now {now}"));
        }
    };
    changed("Tapetum", &head.tapetum, env!("CARGO_PKG_VERSION"));
    for (stage, model) in pipeline.info.stages.iter().filter_map(|s| Some((s, s.model.as_ref()?))) {
        let Some(then) = head.run.models.iter().find(|m| m.stage == stage.name) else { continue };
        let of = |what: &str| format!("stage {}: {what}", stage.name);
        changed(&of("model"), &short(&then.network, &then.sha256), &short(&model.network, &model.sha256));
        changed(&of("engine"), &then.engine, &model.engine);
        changed(&of("engine's version"), &then.engine_version, &model.engine_version);
    }
    let machine = Machine::this();
    if let Some(then) = &head.run.machine {
        changed("processor", &then.cpu, &machine.cpu);
        changed("instruction set", &then.arch, &machine.arch);
    }
    match std::fs::read_to_string(&file.path) {
        Ok(text) if text != recording.pipeline => changes.push(format!(
            "{}: the pipeline file is another now; what ran then is run, from the recording",
            file.path.display()
        )),
        _ => {}
    }
    changes
}

fn short(network: &str, sha256: &str) -> String {
    format!("{network} with SHA-256 {}…", sha256.get(..16).unwrap_or(sha256))
}
