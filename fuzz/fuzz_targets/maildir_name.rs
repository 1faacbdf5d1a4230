//! Any bytes are a Maildir name, and its parts make up the name again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailark::mail::{hint, maildir};

fuzz_target!(|name: &[u8]| {
    let parsed = maildir::parse(name);
    match parsed.flags {
        Some(flags) => {
            assert!(name.starts_with(parsed.base) && name.ends_with(flags));
            assert_eq!(parsed.base.len() + 3 + flags.len(), name.len());
        }
        None => assert_eq!(parsed.base, name),
    }
    for parent in [&b"cur"[..], b"new", b"storage"] {
        hint::hint_for(name, parent);
    }
});
