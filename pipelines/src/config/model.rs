//! The models of a pipeline file.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use tapetum_models::{fuse::FuseOptions, open};
use tapetum_runtime::{
    Error, ErrorKind, Result,
    contract::{Contract, ContractOverride, OutputKind},
    settings::{self, Reader, Table},
};

/// A model as the pipeline file names it.
pub struct ModelFile {
    /// For `model = "…"` of stages.
    pub name: String,
    /// An ONNX file, or a training checkpoint that is fused before its first use.
    pub path: PathBuf,
    /// Whether `path` is a checkpoint.
    pub is_checkpoint: bool,
    /// What the contract file beside it says, with the file's bytes.
    pub changes: Option<(ContractOverride, Vec<u8>)>,
    /// Least share of its nodes that the engine's own provider must run; `None`: all.
    pub min_share: Option<f32>,
    /// Least agreement with fp32 that a lower precision must reach, in the unit of the metric (a share, or dB for
    /// pictures); `None`: the metric's own.
    pub gate: Option<f64>,
    /// How its input is made and what its outputs mean; `None` where there were mistakes.
    pub contract: Option<Contract>,
}

/// A file to use in place of the one that the pipeline file says: `--model NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChange {
    /// The model's name in the pipeline file.
    pub name: String,
    /// An ONNX file if it ends in `.onnx`, else a checkpoint; relative to the current folder.
    pub path: PathBuf,
}

/// Reads `[model.NAME]`; relative paths are below `folder`.
pub(super) fn read<'t>(
    reader: &mut Reader<'t>,
    root: &Table<'t>,
    folder: &Path,
    changes: &[ModelChange],
) -> Vec<ModelFile> {
    let tables = reader.tables(root, "model", &["file", "checkpoint", "contract", "min_share", "gate"]);
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    for change in changes.iter().filter(|c| !names.contains(&c.name.as_str())) {
        let hint = settings::hint(&change.name, &names);
        reader.note(root.place("model"), format!("--model: no [model.{}] in this file{hint}", change.name));
    }
    let change_of = |name: &str| changes.iter().rfind(|c| c.name == name);
    tables
        .into_iter()
        .filter_map(|(name, table)| {
            let change = change_of(&name);
            one(reader, name, &table, folder, change)
        })
        .collect()
}

fn one<'t>(
    reader: &mut Reader<'t>,
    name: String,
    table: &Table<'t>,
    folder: &Path,
    change: Option<&ModelChange>,
) -> Option<ModelFile> {
    let file = reader.string(table, "file");
    let checkpoint = reader.string(table, "checkpoint");
    let onnx = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let (key, path) = match (file, checkpoint) {
        (Some(_), None) | (None, Some(_)) if change.is_some() => {
            let path = change.map(|c| c.path.clone()).unwrap_or_default();
            (if onnx(&path) { "file" } else { "checkpoint" }, path)
        }
        (Some(file), None) => ("file", folder.join(file)),
        (None, Some(checkpoint)) => ("checkpoint", folder.join(checkpoint)),
        (None, None) => {
            if !table.has("file") && !table.has("checkpoint") {
                reader.note(
                    table.place("file"),
                    format!("model {name:?} needs file = \"….onnx\" or checkpoint = \"…\""),
                );
            }
            return None;
        }
        (Some(_), Some(_)) => {
            reader.note(table.place("checkpoint"), "either file or checkpoint, not both");
            return None;
        }
    };
    let mut model = ModelFile {
        name,
        path,
        is_checkpoint: key == "checkpoint",
        changes: None,
        min_share: None,
        gate: None,
        contract: None,
    };
    model.min_share = reader.number(table, "min_share");
    if model.min_share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        reader.note(table.place("min_share"), "min_share is a share of the nodes, from 0 to 1");
    }
    if let Some(contract) = reader.string(table, "contract") {
        match read_changes(&folder.join(contract)) {
            Ok(changes) => model.changes = Some(changes),
            Err(e) => reader.note(table.place("contract"), e.to_string()),
        }
    }
    match model.read_contract() {
        Ok(contract) => model.contract = Some(contract),
        Err(e) if !model.path.exists() => {
            let other = format!("`--model {}=FILE` names another", model.name);
            reader.note(table.place(key), format!("{e}; {other}"));
        }
        Err(e) => reader.note(table.place(key), e.to_string()),
    }
    read_gate(reader, table, &mut model);
    Some(model)
}

/// A gate must be one that the model's metric can reach.
fn read_gate<'t>(reader: &mut Reader<'t>, table: &Table<'t>, model: &mut ModelFile) {
    // By way of the decimal digits, so that 0.99 is 0.99.
    let Some(gate) = reader.number(table, "gate").and_then(|gate| gate.to_string().parse().ok()) else {
        return;
    };
    let kinds = model.contract.iter().flat_map(|c| &c.outputs).map(|o| &o.kind);
    let judged: Vec<&OutputKind> = kinds.filter(|kind| !matches!(kind, OutputKind::Aux)).collect();
    let pictures = !judged.is_empty() && judged.iter().all(|kind| matches!(kind, OutputKind::Image { .. }));
    let (most, unit) =
        if pictures { (120.0, "dB of PSNR, from 0 to 120") } else { (1.0, "a share, from 0 to 1") };
    if !(0.0..=most).contains(&gate) {
        reader.note(table.place("gate"), format!("the gate of this model is {unit}; this is {gate}"));
    }
    model.gate = Some(gate);
}

fn read_changes(path: &Path) -> Result<(ContractOverride, Vec<u8>)> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
    Ok((ContractOverride::from_toml(&text, &path.display().to_string())?, text.into_bytes()))
}

impl ModelFile {
    /// What `fuse` is told about the checkpoint.
    pub fn fuse_options(&self) -> FuseOptions {
        FuseOptions {
            contract: self.changes.as_ref().map(|(changes, _)| changes.clone()),
            ..FuseOptions::default()
        }
    }

    /// The contract in the file, or the plain one of its network or ports, with the changes.
    fn read_contract(&self) -> Result<Contract> {
        let mut contract = match self.is_checkpoint {
            true => open::open(&self.path, &self.fuse_options())?.contract,
            false => self.onnx_contract()?,
        };
        if let Some((changes, _)) = &self.changes {
            changes.apply(&mut contract)?;
        }
        Ok(contract)
    }

    fn onnx_contract(&self) -> Result<Contract> {
        let file = File::open(&self.path).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("{}: {e}", self.path.display())).caused_by(e)
        })?;
        let contract =
            Contract::from_onnx(&mut BufReader::new(file)).map_err(|e| e.at(self.path.display()))?;
        match contract {
            Some(contract) => Ok(contract),
            None if self.changes.is_some() => Ok(open::open(&self.path, &self.fuse_options())?.contract),
            None => Err(Error::config(format!(
                "{} carries no contract; say with contract = \"….toml\" how its input is made and what its \
                 outputs mean",
                self.path.display()
            ))),
        }
    }
}
