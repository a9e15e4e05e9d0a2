//! How a camera is opened: keys of `[camera.NAME]` that only some kinds of source heed.

use std::{path::Path, time::Duration};

use tapetum_runtime::settings::{Reader, Table};

use crate::source::{
    rtsp::{Credentials, Transport},
    supervised::LiveOptions,
};

pub(super) fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, folder: &Path) -> LiveOptions {
    let mut live = LiveOptions::default();
    if let Some(transport) =
        reader.choice(table, "transport", &[("tcp", Transport::Tcp), ("udp", Transport::Udp)])
    {
        live.rtsp.transport = transport;
    }
    if let Some(stall) = seconds(reader, table, "stall_s") {
        (live.rtsp.stall, live.patience.stall) = (stall, stall);
    }
    if let Some(connect) = seconds(reader, table, "connect_s") {
        live.rtsp.connect = connect;
    }
    let (user, file) = (reader.string(table, "user"), reader.string(table, "password_file"));
    match (user, file) {
        (Some(user), Some(file)) => match std::fs::read_to_string(folder.join(&file)) {
            Ok(password) => {
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                live.rtsp.credentials = Some(Credentials { user, password });
            }
            Err(e) => reader.note(table.place("password_file"), format!("{file}: {e}")),
        },
        (None, None) => {}
        (user, _) => {
            let (has, lacks) =
                if user.is_some() { ("user", "password_file") } else { ("password_file", "user") };
            reader.note(table.place(has), format!("{has} goes with {lacks}"));
        }
    }
    live
}

fn seconds<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &str) -> Option<Duration> {
    let seconds = reader.number(table, key)?;
    if !(0.1..=3600.0).contains(&seconds) {
        reader.note(table.place(key), format!("{key} must be from 0.1 to 3600 seconds, this is {seconds}"));
        return None;
    }
    Some(Duration::from_secs_f32(seconds))
}
