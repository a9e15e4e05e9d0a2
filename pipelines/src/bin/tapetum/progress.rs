//! Signs of life on standard error, for anything longer than a moment.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A spinner with a line of text; silent when standard error is not a terminal.
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Starts it; `quiet` keeps it silent.
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Says what is going on now.
    pub fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// Says something that stays.
    pub fn keep(&self, text: impl AsRef<str>) {
        if self.0.is_hidden() {
            eprintln!("{}", text.as_ref());
        } else {
            self.0.println(text);
        }
    }

    /// Takes the line away.
    pub fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.done();
    }
}
