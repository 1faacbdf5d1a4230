//! Stretches of time.

/// A half-open stretch of time, unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// The first second; `None` from ever.
    pub from: Option<i64>,
    /// The first second behind it; `None` for ever.
    pub to: Option<i64>,
}

impl Interval {
    /// Is this second in it?
    pub fn holds(&self, second: i64) -> bool {
        self.from.is_none_or(|from| second >= from) && self.to.is_none_or(|to| second < to)
    }

    /// Does it hold every second?
    pub fn is_open(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_half_open() {
        let interval = Interval { from: Some(10), to: Some(20) };
        assert!(interval.holds(10) && interval.holds(19) && !interval.holds(20) && !interval.holds(9));
        assert!(Interval::default().holds(i64::MIN) && Interval::default().is_open() && !interval.is_open());
    }
}
