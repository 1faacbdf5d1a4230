//! SIGINT, SIGTERM and SIGHUP ask the run to stop; a second one ends it at once.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::failure::Exit;
use crate::base::interrupt::Interrupt;

/// Lets signals raise `interrupt`. Signals that the caller ignores (`nohup`, background jobs) stay ignored.
pub fn install(interrupt: &Interrupt) -> io::Result<()> {
    let ignored = ignored_mask();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        // In this order: the exit looks at the flag before this same signal raises it.
        flag::register_conditional_shutdown(signal, i32::from(Exit::Interrupted.code()), interrupt.flag())?;
        flag::register(signal, interrupt.flag())?;
    }
    Ok(())
}

/// The signals this process was started with as ignored, bit n-1 for signal n; 0 where the system does not say.
fn ignored_mask() -> u64 {
    std::fs::read_to_string("/proc/self/status").map(|status| ignored_in(&status)).unwrap_or(0)
}

fn ignored_in(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_mask_is_read() {
        let hangup = 1 << (SIGHUP - 1);
        assert_eq!(ignored_in("Name:\tmailark\nSigIgn:\t0000000000000001\nSigCgt:\t00\n"), hangup);
        assert_eq!(ignored_in("Name:\tmailark\n"), 0);
        assert_eq!(ignored_in("SigIgn:\tnonsense\n"), 0);
    }
}
