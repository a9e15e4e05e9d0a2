//! Signs of life on standard error, for anything longer than a moment.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Where nobody watches a moving line, a line is written as often as this.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A spinner with a line of text; silent when standard error is not a terminal, but for what takes long.
pub struct Spinner {
    bar: ProgressBar,
    quiet: bool,
    lines: RefCell<Option<Lines>>,
}

impl Spinner {
    /// Starts it; `quiet` keeps it silent.
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let spinner = Self { bar, quiet, lines: RefCell::new(None) };
        spinner.style("{spinner} {msg} ({elapsed})", None);
        spinner.bar.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    fn style(&self, template: &str, estimate: Option<Duration>) {
        let Ok(style) = ProgressStyle::with_template(template) else { return };
        self.bar.set_style(style.with_key("share", move |state: &ProgressState, out: &mut dyn Write| {
            // What cannot be written is a sign of life less.
            let _ = out.write_str(&share(state.elapsed(), estimate));
        }));
    }

    /// Says what is going on now.
    pub fn say(&self, text: impl Into<String>) {
        if self.lines.take().is_some() {
            self.style("{spinner} {msg} ({elapsed})", None);
        }
        self.bar.set_message(text.into());
    }

    /// Says that something long begins, and how long it will take, if that is known.
    pub fn takes(&self, text: String, estimate: Option<Duration>) {
        self.bar.reset_elapsed();
        self.style("{spinner} {msg} {share}", estimate);
        self.bar.set_message(text.clone());
        let hidden = self.bar.is_hidden() && !self.quiet;
        *self.lines.borrow_mut() = Some(Lines::start(hidden.then_some(text), estimate));
    }

    /// Says something that stays.
    pub fn keep(&self, text: impl AsRef<str>) {
        if self.bar.is_hidden() {
            eprintln!("{}", text.as_ref());
        } else {
            self.bar.println(text);
        }
    }

    /// Writes a result to standard output, around the moving line.
    pub fn result(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Takes the line away.
    pub fn done(&self) {
        self.lines.take();
        self.bar.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.done();
    }
}

/// `[=====     ] 3 s of about 6 s`, or the time so far where nothing is known.
fn share(elapsed: Duration, estimate: Option<Duration>) -> String {
    let so_far = elapsed.as_secs();
    let Some(estimate) = estimate.filter(|e| !e.is_zero()) else {
        return format!("({so_far} s; no earlier build tells how long it takes)");
    };
    let tenths = ((elapsed.as_secs_f64() / estimate.as_secs_f64()) * 10.0).min(10.0) as usize;
    let bar = format!("{:<10}", "=".repeat(tenths));
    if elapsed > estimate {
        return format!(
            "[{bar}] {so_far} s, longer than the {:.0} s of an earlier build",
            estimate.as_secs_f64()
        );
    }
    format!("[{bar}] {so_far} s of about {:.0} s", estimate.as_secs_f64().ceil())
}

/// A line every [`LINE_EVERY`] while something lasts, from a thread of its own; none without a text.
struct Lines(Option<(SyncSender<()>, JoinHandle<()>)>);

impl Lines {
    fn start(text: Option<String>, estimate: Option<Duration>) -> Self {
        Self(text.map(|text| {
            let (stop, stopped) = sync_channel(1);
            let begun = Instant::now();
            let thread = std::thread::spawn(move || {
                while stopped.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("{text} {}", share(begun.elapsed(), estimate));
                }
            });
            (stop, thread)
        }))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // It only prints; if it died of that, nothing is lost.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_said_only_where_there_is_one_and_not_beyond_it() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(3), Some(seconds(6))), "[=====     ] 3 s of about 6 s");
        let over = share(seconds(9), Some(seconds(6)));
        assert_eq!(over, "[==========] 9 s, longer than the 6 s of an earlier build");
        assert!(share(seconds(3), None).starts_with("(3 s; no earlier build"));
        assert!(share(seconds(3), Some(Duration::ZERO)).starts_with("(3 s; no earlier build"));
    }
}
