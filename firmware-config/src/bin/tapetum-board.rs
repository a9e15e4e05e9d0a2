//! What this board is, for scripts of the package: `tapetum-board [drop-in | power-mode]`.
//!
//! Without an argument the name and description. `drop-in`: what systemd must be told of its device nodes, nothing if there are
//! none. `power-mode`: the number of its power mode in `/etc/nvpmodel.conf`, nothing if the board has no such modes.

use std::{path::Path, process::ExitCode};

use tapetum_device::{Board, mode_number};
use tapetum_runtime::{Error, ErrorKind, Result};

fn main() -> ExitCode {
    match say(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("tapetum-board: {e}");
            ExitCode::from(if e.kind() == ErrorKind::InvalidConfig { 2 } else { 1 })
        }
    }
}

fn say(args: &[String]) -> Result<String> {
    let root = Path::new("/");
    let board = Board::detect(root)?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(format!("{}: {}\n", board.name, board.description)),
        ["drop-in"] => Ok(board.drop_in(root).unwrap_or_default()),
        ["power-mode"] if board.power_modes.is_empty() => Ok(String::new()),
        ["power-mode"] => {
            let path = "/etc/nvpmodel.conf";
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::new(ErrorKind::Environment, format!("{path}: {e}")))?;
            Ok(format!("{}\n", mode_number(&text, &board.power_modes)?))
        }
        _ => Err(Error::config("usage: tapetum-board [drop-in | power-mode]")),
    }
}
