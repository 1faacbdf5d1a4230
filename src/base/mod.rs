//! Layer 0: identifiers, limits, time, randomness, progress. Knows nothing of mail or storage.

pub mod bytes;
pub mod causes;
pub mod clock;
pub mod entropy;
pub mod id;
pub mod interrupt;
pub mod interval;
pub mod limits;
pub mod progress;
pub mod recent;
pub mod remote;
