//! Time as the core knows it: an argument, never a reading.

use core::fmt;
use core::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A length of time, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// So many minutes.
    #[must_use]
    pub const fn from_mins(mins: u64) -> Self {
        Self(mins * 60_000)
    }

    /// Reads `250ms`, `5s`, `10m`, `2h`: a whole number of at most nine digits and a unit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        // Nine digits of hours fit into 64 bits of ms.
        if digits == 0 || digits > 9 {
            return None;
        }
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.parse::<u64>().ok().map(|number| Self(number * factor))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// A point on a clock that only goes forward, in ms since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// How long ago `earlier` was; nothing when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Monotonic {
    type Output = Self;

    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

/// A point on the wall clock, in ms since 1970-01-01 UTC. It may jump: nothing but windows that outlive the
/// daemon, and what people read, is counted by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// How far apart two times are, whichever is the later one: a wall clock may have been set back since.
    #[must_use]
    pub fn distance(self, other: Self) -> Millis {
        Millis(self.0.abs_diff(other.0))
    }
}

/// For people, in UTC and to the second: `2026-04-02T13:00:09Z` (RFC 3339).
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (day, second) = (seconds / 86_400, seconds % 86_400);
        // Days are counted from the first of March of the year 0, so that a leap day is a year's last one: from there on
        // every month but February begins where a line of 153 days for five months says.
        let day = day + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + next;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Sub for UnixMs {
    type Output = Millis;

    fn sub(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read by the driver at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What every deadline is counted by.
    pub monotonic: Monotonic,
    /// What people read.
    pub unix: UnixMs,
}

impl Now {
    /// When something was, by the wall clock as it is set now: what it showed then may have been another time.
    #[must_use]
    pub fn wall(&self, at: Monotonic) -> UnixMs {
        UnixMs(self.unix.0.saturating_sub(self.monotonic.since(at).0))
    }

    /// By how much the wall clock was set forward since `earlier`; negative: back.
    #[must_use]
    pub fn stepped(&self, earlier: &Self) -> i64 {
        let off = |now: &Self| now.unix.0.cast_signed().wrapping_sub(now.monotonic.0.cast_signed());
        off(self).wrapping_sub(off(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_was_is_told_by_the_wall_clock_as_it_is_set_now() {
        let before = Now { monotonic: Monotonic(5_000), unix: UnixMs(1_000_000) };
        let back = Now { monotonic: Monotonic(6_000), unix: UnixMs(401_000) };
        assert_eq!((before.wall(Monotonic(4_000)), back.wall(Monotonic(4_000))), (UnixMs(999_000), UnixMs(399_000)));
        assert_eq!((back.stepped(&before), before.stepped(&back)), (-600_000, 600_000));
    }

    #[test]
    fn a_time_is_shown_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
            (1_775_134_809_500, "2026-04-02T13:00:09Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(UnixMs(ms).to_string(), text);
        }
        assert!(UnixMs(u64::MAX).to_string().ends_with('Z'), "a clock may say anything");
    }

    #[test]
    fn lengths_read_and_show() {
        let check = |text: &str, ms: Option<u64>| assert_eq!(Millis::parse(text), ms.map(Millis), "{text}");
        check("250ms", Some(250));
        check("5s", Some(5_000));
        check("10m", Some(600_000));
        check("999999999h", Some(999_999_999 * 3_600_000));
        for wrong in ["", "s", "5", "5 s", "-5s", "1000000000h", "5d", "1.5s"] {
            check(wrong, None);
        }
        for text in ["0s", "250ms", "5s", "10m", "2h", "90s"] {
            assert_eq!(Millis::parse(text).unwrap().to_string(), text);
        }
    }
}
