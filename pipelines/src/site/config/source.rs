//! How a camera is opened: keys of `[camera.NAME]` that only some kinds of source heed.

use std::{path::Path, time::Duration};

use tapetum_runtime::settings::{Reader, Table};

use crate::source::{
    rtsp::{Credentials, Transport},
    supervised::LiveOptions,
};

/// How a source begins that plays another one over and over.
const LOOP: &str = "loop:";

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

/// `source` with the path of a file or folder, where it is relative, below `folder`, as all paths of a configuration are.
pub(super) fn below(folder: &Path, source: &str) -> String {
    let (kind, rest) = match source.strip_prefix(LOOP) {
        Some(rest) => (LOOP, rest),
        None => ("", source),
    };
    // What has a kind is no path.
    if rest.is_empty() || rest.contains(':') {
        return source.to_owned();
    }
    format!("{kind}{}", folder.join(rest).display())
}

fn seconds<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &str) -> Option<Duration> {
    let seconds = reader.number(table, key)?;
    if !(0.1..=3600.0).contains(&seconds) {
        reader.note(table.place(key), format!("{key} must be from 0.1 to 3600 seconds, this is {seconds}"));
        return None;
    }
    Some(Duration::from_secs_f32(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_of_files_are_below_the_folder_and_nothing_else_is_changed() {
        for (source, expected) in [
            ("clip.mp4", "/etc/site/clip.mp4"),
            ("loop:clips/a.mp4?fps=5", "loop:/etc/site/clips/a.mp4?fps=5"),
            ("loop:frames/*.png", "loop:/etc/site/frames/*.png"),
            ("loop:/srv/a.mp4", "loop:/srv/a.mp4"),
            ("loop:synthetic:eye?fps=30", "loop:synthetic:eye?fps=30"),
            ("synthetic:eye", "synthetic:eye"),
            ("rtsp://u:p@cam/1", "rtsp://u:p@cam/1"),
            ("v4l2:/dev/video0?fps=5", "v4l2:/dev/video0?fps=5"),
            ("/dev/video0", "/dev/video0"),
            ("gst:videotestsrc ! appsink", "gst:videotestsrc ! appsink"),
        ] {
            assert_eq!(below(Path::new("/etc/site"), source), expected);
        }
    }
}
