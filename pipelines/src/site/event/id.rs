//! Ids of events: 26 characters that are unique over cameras and restarts and sort by time.

use std::{
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use tapetum_runtime::{Error, ErrorKind, Result};

/// Crockford's base 32: without letters that are taken for others.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RANDOM_BITS: u32 = 80;

/// Makes ids, as ULIDs are made (github.com/ulid/spec): 48 bits of milliseconds, then 80 random bits from the system. Within a
/// process each is greater than all before it, also when the clock stands still or jumps back.
#[derive(Debug)]
pub struct Ids(Mutex<u128>);

impl Ids {
    /// # Errors
    /// [`ErrorKind::Environment`] if the system gives no random numbers.
    pub fn new() -> Result<Self> {
        random()?;
        Ok(Self(Mutex::new(0)))
    }

    /// The next id, for something that began at `time`.
    pub fn next(&self, time: SystemTime) -> String {
        let ms = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis()) & ((1 << 48) - 1);
        let mut last = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let id = match random() {
            Ok(random) if ms > *last >> RANDOM_BITS => ms << RANDOM_BITS | random,
            // The clock did not move on, or there is nothing random: the one after the last is as unique as the last.
            _ => last.wrapping_add(1),
        };
        *last = id;
        (0..26).rev().map(|at| char::from(DIGITS[(id >> (5 * at)) as usize % 32])).collect()
    }
}

/// 79 random bits: the topmost is left free, so that counting up never reaches the time.
fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes[..10])
        .map_err(|_| Error::new(ErrorKind::Environment, "the system gives no random numbers"))?;
    Ok(u128::from_le_bytes(bytes) & ((1 << (RANDOM_BITS - 1)) - 1))
}

/// When the id was made, to the millisecond; `None` if it is none of ours.
pub fn time(id: &str) -> Option<SystemTime> {
    if id.len() != 26 {
        return None;
    }
    let digits = id.bytes().map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    // The first digit has three bits: 26 of them are 130.
    let value = digits.enumerate().try_fold(0u128, |value, (at, digit)| {
        let digit = digit.filter(|digit| at > 0 || *digit < 8)?;
        Some(value << 5 | digit as u128)
    })?;
    UNIX_EPOCH.checked_add(std::time::Duration::from_millis((value >> RANDOM_BITS) as u64))
}
