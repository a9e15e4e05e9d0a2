//! The thread that writes a database.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Transaction};
use tapetum_runtime::{Error, ErrorKind, Result};

use super::file::{self, Fault};

/// Until the next try after a fault.
const RETRY: Duration = Duration::from_millis(500);
/// Between two calls of [`Keeper::tidy`], at most.
const TIDY: Duration = Duration::from_secs(60);

/// What is written, and how.
pub trait Keeper: Send + 'static {
    /// One thing to be written.
    type Job: Clone + Send + 'static;

    /// Most jobs in one commit.
    const BATCH: usize;
    /// Most jobs in memory. With more, the oldest are dropped.
    const WAITING: usize;
    /// Jobs are gathered this long before they are committed.
    const GATHER: Duration;

    /// The database was opened: makes and checks its tables.
    ///
    /// # Errors
    /// It cannot be used now.
    fn prepare(&mut self, db: &mut Connection) -> std::result::Result<(), Fault>;

    /// Whether a job has anything to write.
    fn idle(&self, job: &Self::Job) -> bool;

    /// Writes some jobs, in their order.
    ///
    /// # Errors
    /// None of them is written; all come again.
    fn write(&mut self, tx: &Transaction<'_>, jobs: &[Self::Job]) -> rusqlite::Result<()>;

    /// What was written last is on disk.
    fn committed(&mut self);

    /// Nothing is to be written: makes room.
    ///
    /// # Errors
    /// It could not.
    fn tidy(&mut self, db: &mut Connection) -> rusqlite::Result<()>;

    /// The file was corrupt and was moved to `aside`: what was in it is lost.
    fn lost(&mut self, aside: &Path, what: &str);

    /// Works (none), or why not.
    fn state(&self, fault: Option<&Fault>);
}

/// The outside of the thread. Dropped, the thread ends without writing more.
pub struct Writer<K: Keeper> {
    shared: Arc<Shared<K::Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: Dropped<K::Job>,
}

/// Is told of a job that fell out of memory.
type Dropped<J> = Box<dyn Fn(&J) + Send + Sync>;

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    /// For the thread: there is something to do.
    wake: Condvar,
    /// For those who wait: something is done.
    done: Condvar,
}

struct Queue<J> {
    /// What is not yet on disk, oldest first.
    waiting: VecDeque<J>,
    /// Number of the first that waits: as many as were written or dropped so far.
    first: u64,
    /// As many as were dropped so far.
    dropped: u64,
    /// Somebody waits: nothing is gathered.
    hurry: bool,
    /// The file was opened, or that failed: what was in it is counted.
    looked: bool,
    /// Whether it is to end, and when at the latest.
    stop: Option<Instant>,
    ended: bool,
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Keeper> Writer<K> {
    /// Starts the thread, which opens `path`. `dropped` is told of jobs that fall out of memory.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if there can be no thread.
    pub fn start(
        path: PathBuf,
        keeper: K,
        dropped: impl Fn(&K::Job) + Send + Sync + 'static,
    ) -> Result<Self> {
        let queue = Queue {
            waiting: VecDeque::new(),
            first: 0,
            dropped: 0,
            hurry: false,
            looked: false,
            stop: None,
            ended: false,
        };
        let shared =
            Arc::new(Shared { queue: Mutex::new(queue), wake: Condvar::new(), done: Condvar::new() });
        let inside = Inside { path, keeper, db: None, shared: Arc::clone(&shared), tidied: Instant::now() };
        let thread =
            thread::Builder::new().name("output-disk".to_owned()).spawn(move || inside.run()).map_err(
                |e| Error::new(ErrorKind::Environment, format!("cannot start a thread: {e}")).caused_by(e),
            )?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), dropped: Box::new(dropped) })
    }

    /// Takes a job. Never waits for the disk.
    pub fn offer(&self, job: K::Job) {
        self.offer_with(|| job);
    }

    /// Takes a job that is made when its place in the order is certain.
    pub fn offer_with(&self, job: impl FnOnce() -> K::Job) {
        let mut queue = self.shared.lock();
        let job = job();
        if queue.stop.is_some() {
            drop(queue);
            return (self.dropped)(&job);
        }
        // A thread that has ended (by a panic) takes nothing more; what waits stays bounded.
        let oldest = if queue.waiting.len() >= K::WAITING {
            (queue.first, queue.dropped) = (queue.first + 1, queue.dropped + 1);
            queue.waiting.pop_front()
        } else {
            None
        };
        queue.waiting.push_back(job);
        drop(queue);
        self.shared.wake.notify_one();
        oldest.iter().for_each(|job| (self.dropped)(job));
    }

    /// Looks at what waits in memory, oldest first; may change it as long as nothing is taken out.
    pub fn waiting<R>(&self, look: impl FnOnce(&mut VecDeque<K::Job>) -> R) -> R {
        look(&mut self.shared.lock().waiting)
    }

    /// Waits until everything offered before is on disk and what was there at the start is counted, at most for `within`. Whether
    /// it is.
    pub fn flush(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut queue = self.shared.lock();
        let (mark, dropped) = (queue.first + queue.waiting.len() as u64, queue.dropped);
        queue.hurry = true;
        self.shared.wake.notify_one();
        while (queue.first < mark || !queue.looked) && !queue.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.first >= mark && queue.dropped == dropped
    }

    /// Ends the thread when everything is on disk, after `within` at the latest. What is left then is dropped, and told. Whether the
    /// thread has ended and the file is closed.
    pub fn stop(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut queue = self.shared.lock();
        let before = queue.ended;
        queue.stop = Some(until);
        self.shared.wake.notify_one();
        while !queue.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.shared.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let ended = queue.ended;
        // Counted when that is sure, and once.
        let left: Vec<_> =
            if ended && !before { queue.waiting.iter().cloned().collect() } else { Vec::new() };
        drop(queue);
        left.iter().for_each(|job| (self.dropped)(job));
        if ended && let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has nothing more to say.
            thread.join().ok();
        }
        ended
    }
}

impl<K: Keeper> Drop for Writer<K> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.stop.get_or_insert_with(Instant::now);
        drop(queue);
        self.shared.wake.notify_one();
    }
}

struct Inside<K: Keeper> {
    path: PathBuf,
    keeper: K,
    db: Option<Connection>,
    shared: Arc<Shared<K::Job>>,
    tidied: Instant,
}

/// What the thread does next.
enum Next<J> {
    /// Writes these, of which the first has this number.
    Write(Vec<J>, u64),
    Tidy,
    End,
}

impl<K: Keeper> Inside<K> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // Whoever waits for this thread must not wait for ever, also if it panics.
        let _ended = Ended(&shared);
        // What is wrong is told at once, not with the first job.
        let mut broken = self.attempt(&[]).is_err();
        shared.lock().looked = true;
        shared.done.notify_all();
        loop {
            match self.next(broken) {
                Next::End => return,
                Next::Tidy => {
                    self.tidied = Instant::now();
                    broken = self.attempt(&[]).is_err();
                    if !broken && let Some(db) = &mut self.db {
                        let tidied = self.keeper.tidy(db).map_err(Fault::from);
                        broken = tidied.is_err();
                        self.keeper.state(tidied.err().as_ref());
                    }
                }
                Next::Write(jobs, number) => {
                    broken = self.attempt(&jobs).is_err();
                    if !broken {
                        let mut queue = shared.lock();
                        // Some of them may have fallen out meanwhile: the first.
                        let written = (number + jobs.len() as u64).saturating_sub(queue.first);
                        queue.waiting.drain(..written as usize);
                        queue.first += written;
                        drop(queue);
                        shared.done.notify_all();
                    }
                }
            }
        }
    }

    /// Waits until there is something to do; after a fault, for a while in any case.
    fn next(&self, broken: bool) -> Next<K::Job> {
        let start = Instant::now();
        let mut queue = self.shared.lock();
        let mut gather_until = None;
        loop {
            let now = Instant::now();
            if queue.stop.is_some_and(|until| now >= until || queue.waiting.is_empty()) {
                return Next::End;
            }
            let until = if broken {
                // A stop does not make a broken disk well: the tries stay apart.
                start + RETRY.min(if queue.stop.is_some() { RETRY / 5 } else { RETRY })
            } else if queue.waiting.is_empty() {
                queue.hurry = false;
                self.tidied + TIDY
            } else if queue.hurry || queue.stop.is_some() || queue.waiting.len() >= K::BATCH {
                now
            } else {
                *gather_until.get_or_insert(now + K::GATHER)
            };
            if now >= until {
                return if queue.waiting.is_empty() {
                    Next::Tidy
                } else {
                    let jobs = queue.waiting.iter().take(K::BATCH).cloned().collect();
                    Next::Write(jobs, queue.first)
                };
            }
            queue =
                self.shared.wake.wait_timeout(queue, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes the jobs in one commit. What cannot be written now is told, and comes again.
    fn attempt(&mut self, jobs: &[K::Job]) -> std::result::Result<(), ()> {
        let written = self.write(jobs);
        if let Err(fault) = &written {
            match fault {
                Fault::Corrupt(what) => self.start_anew(what),
                Fault::Locked | Fault::Full => {}
                Fault::Newer(_) | Fault::Other(_) => self.db = None,
            }
        }
        self.keeper.state(written.as_ref().err());
        written.map_err(drop)
    }

    fn write(&mut self, jobs: &[K::Job]) -> std::result::Result<(), Fault> {
        let db = match self.db.take() {
            Some(db) => db,
            None => {
                let mut db = file::open(&self.path)?;
                self.keeper.prepare(&mut db)?;
                db
            }
        };
        let db = self.db.insert(db);
        if jobs.iter().all(|job| self.keeper.idle(job)) {
            return Ok(());
        }
        // Immediate: else a lock is found out in the middle, where waiting does not help.
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        self.keeper.write(&tx, jobs)?;
        tx.commit()?;
        self.keeper.committed();
        Ok(())
    }

    fn start_anew(&mut self, what: &str) {
        self.db = None;
        if let Ok(aside) = file::move_aside(&self.path) {
            self.keeper.lost(&aside, what);
        }
    }
}

/// Says that the thread has ended, however it does.
struct Ended<'a, J>(&'a Shared<J>);

impl<J> Drop for Ended<'_, J> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.done.notify_all();
    }
}
