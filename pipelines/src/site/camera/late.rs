//! Whether a camera's results come too late, all of them: counted for who looks, told to who does not. Without threads or time.

use std::time::Duration;

use tapetum_runtime::clock::Tick;

/// How long all results must have been late, or none, until that is told.
const WHILE: Duration = Duration::from_secs(10);

/// What was counted when it was looked last.
#[derive(Default)]
pub(super) struct Lateness {
    from: Tick,
    delivered: u64,
    late: u64,
    told: bool,
}

impl Lateness {
    /// Looks at what was delivered so far, and how much of it late. `Some` when that has come to be, or is over.
    pub fn look(&mut self, delivered: u64, late: u64, now: Tick) -> Option<bool> {
        if now.saturating_sub(self.from) < WHILE {
            return None;
        }
        let (new, tardy) = (delivered.saturating_sub(self.delivered), late.saturating_sub(self.late));
        (self.from, self.delivered, self.late) = (now, delivered, late);
        let all = match (new, tardy) {
            // Of nothing nobody knows.
            (0, _) => return None,
            (_, 0) => false,
            (new, tardy) if tardy == new => true,
            _ => return None,
        };
        (std::mem::replace(&mut self.told, all) != all).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_when_all_are_late_and_once_when_none_is() {
        let mut lateness = Lateness::default();
        let (mut delivered, mut late, mut told) = (0, 0, Vec::new());
        for second in 0..100_u32 {
            delivered += 10;
            // All of them from 20 s to 59, half until 79, then none; and nothing is delivered from 40 to 49.
            if (40..50).contains(&second) {
                delivered -= 10;
            } else {
                late += [0, 10, 5, 0][[20, 60, 80].iter().filter(|at| second >= **at).count()];
            }
            if let Some(all) = lateness.look(delivered, late, Duration::from_secs(1) * second) {
                told.push((second, all));
            }
        }
        assert_eq!(told, [(30, true), (90, false)]);
    }
}
