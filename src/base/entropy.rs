//! The one place that draws random bytes.

/// Returns `N` bytes from the operating system's generator.
///
/// # Panics
/// When the kernel has no randomness to give: nothing safe can be done without it.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
/// As [`random`].
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}
