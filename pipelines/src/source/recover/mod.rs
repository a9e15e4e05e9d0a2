//! When a source that failed is opened again, and what its outages cost: a state machine without threads or time.
//!
//! Whoever runs it asks [`Recovery::ask`] what to do and tells it what came of it. Time is a [`Tick`] that is handed in.

use std::time::Duration;

use tapetum_runtime::{clock::Tick, seed::Seeded};

/// How long to wait, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Wait before the first new attempt; each further one waits twice as long.
    pub first: Duration,
    /// Longest wait.
    pub most: Duration,
    /// Pictures for this long make the next failure the first one again.
    pub calm: Duration,
    /// Wait after an error that no new attempt can mend by itself (a wrong password, a codec that is not in this build), as long as
    /// there never was a picture. What has worked is set up right: a camera that starts up again refuses passwords and paths for some
    /// seconds, and one that was unplugged has no file.
    pub hopeless: Duration,
    /// Waits are shortened at random by up to this part, from 0 to 1, so that cameras do not come back all at once.
    pub jitter: f32,
    /// A source that gives nothing for this long is given up.
    pub stall: Duration,
    /// So is one that gives frames, and none that can be read, for this long.
    pub blind: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            calm: Duration::from_secs(60),
            hopeless: Duration::from_secs(60),
            jitter: 0.25,
            stall: Duration::from_secs(5),
            blind: Duration::from_secs(30),
        }
    }
}

/// Where a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being opened, since then; no picture came yet.
    Connecting {
        /// Since when.
        since: Tick,
    },
    /// Pictures come.
    Streaming {
        /// Since the first of them.
        since: Tick,
    },
    /// It will be opened again.
    Waiting {
        /// When.
        until: Tick,
        /// Whether the last error is one that no new attempt can mend by itself.
        hopeless: bool,
    },
    /// It was told to stop, or a source that is no camera is over.
    Stopped,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Open the source.
    Open,
    /// Read the source that is open.
    Read,
    /// Nothing for this long.
    Wait(Duration),
    /// Nothing more.
    Stop,
}

/// Why a source that was open is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing came for too long.
    Stall,
    /// It said so.
    Failed {
        /// Its words.
        why: String,
        /// Whether no new attempt can mend it by itself.
        hopeless: bool,
    },
    /// It ended.
    Ended,
}

/// What went wrong so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFaults {
    /// Attempts to open it that failed.
    pub refused: u64,
    /// Times that it was lost while it was open; each is a gap in the stream.
    pub lost: u64,
    /// How many of these because nothing came, or nothing that can be read.
    pub stalls: u64,
    /// Times that pictures came again after an outage.
    pub reconnects: u64,
    /// Time without pictures, of outages that are over: from the last picture (or the start) to the next one.
    pub downtime: Duration,
    /// What went wrong last, with its time.
    pub last: Option<(Tick, String)>,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Recovery {
    patience: Patience,
    random: Seeded,
    phase: Phase,
    /// Whether the source is open.
    open: bool,
    /// The next wait, before jitter.
    wait: Duration,
    /// The latest picture (at first: the start), and the latest sign of life.
    picture: Tick,
    sign: Tick,
    seen: bool,
    /// Since when there are no pictures.
    down: Option<Tick>,
    faults: SourceFaults,
}

impl Recovery {
    /// A source that is to be opened at `now`. `seed` decides the jitter.
    pub fn new(patience: Patience, seed: u64, now: Tick) -> Self {
        Self {
            wait: patience.first,
            patience,
            random: Seeded::new(seed),
            phase: Phase::Connecting { since: now },
            open: false,
            picture: now,
            sign: now,
            seen: false,
            down: Some(now),
            faults: SourceFaults::default(),
        }
    }

    /// What to do at `now`.
    pub fn ask(&mut self, now: Tick) -> Do {
        match self.phase {
            Phase::Stopped => Do::Stop,
            Phase::Waiting { until, .. } if now < until => Do::Wait(until - now),
            Phase::Waiting { .. } => {
                self.phase = Phase::Connecting { since: now };
                Do::Open
            }
            _ if self.open => Do::Read,
            _ => Do::Open,
        }
    }

    /// It was opened.
    pub fn opened(&mut self, now: Tick) {
        self.open = true;
        (self.sign, self.picture) = (now, now);
    }

    /// It could not be opened.
    pub fn refused(&mut self, now: Tick, why: String, hopeless: bool) {
        self.faults.refused += 1;
        self.fail(now, why, hopeless);
    }

    /// A picture came. True if it is the first since the source was opened.
    pub fn picture(&mut self, now: Tick) -> bool {
        (self.sign, self.picture) = (now, now);
        if let Some(down) = self.down.take() {
            self.faults.downtime += now.saturating_sub(down);
        }
        if matches!(self.phase, Phase::Streaming { .. }) {
            return false;
        }
        self.phase = Phase::Streaming { since: now };
        self.faults.reconnects += u64::from(self.seen);
        self.seen = true;
        true
    }

    /// A frame came that could not be read.
    pub fn unreadable(&mut self, now: Tick) {
        self.sign = now;
    }

    /// Whether the source has to be given up at `now`, because it gives nothing, or nothing that can be read.
    pub fn stalled(&self, now: Tick) -> bool {
        self.open
            && (now.saturating_sub(self.sign) >= self.patience.stall
                // Who may be silent for longer gives no pictures in that time either.
                || now.saturating_sub(self.picture) >= self.patience.blind.max(self.patience.stall))
    }

    /// It was open and is given up.
    pub fn lost(&mut self, now: Tick, loss: Loss) {
        self.faults.lost += 1;
        if let Phase::Streaming { since } = self.phase {
            if now.saturating_sub(since) >= self.patience.calm {
                self.wait = self.patience.first;
            }
            self.down.get_or_insert(self.picture);
        }
        self.open = false;
        match loss {
            Loss::Stall => {
                let why = self.stalled_for(now);
                self.faults.stalls += 1;
                self.fail(now, why, false);
            }
            Loss::Failed { why, hopeless } => self.fail(now, why, hopeless),
            Loss::Ended => self.fail(now, "the stream ended".to_owned(), false),
        }
    }

    fn stalled_for(&self, now: Tick) -> String {
        let silent = now.saturating_sub(self.sign);
        if silent >= self.patience.stall {
            return format!("nothing came for {:.1} s", silent.as_secs_f64());
        }
        let blind = now.saturating_sub(self.picture);
        format!("no picture that can be read for {:.1} s", blind.as_secs_f64())
    }

    fn fail(&mut self, now: Tick, why: String, hopeless: bool) {
        let slow = hopeless && !self.seen;
        let wait = if slow { self.patience.hopeless } else { self.wait };
        let less = self.random.uniform(0.0, self.patience.jitter.clamp(0.0, 1.0));
        if !slow {
            self.wait = (self.wait * 2).min(self.patience.most);
        }
        let wait = wait.min(self.patience.most.max(self.patience.hopeless)).mul_f32(1.0 - less);
        self.phase = Phase::Waiting { until: now + wait, hopeless };
        self.faults.last = Some((now, why));
    }

    /// Nothing more will be done.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.open = false;
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What went wrong so far; the downtime without the outage that goes on.
    pub fn faults(&self) -> &SourceFaults {
        &self.faults
    }

    /// Since when there have been no pictures.
    pub fn down(&self) -> Option<Tick> {
        self.down
    }
}

#[cfg(test)]
mod tests;
