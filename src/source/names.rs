//! User and group names of this host, by number and back.
//!
//! `/etc/passwd` and `/etc/group` are read once, as text. The system's name service is left alone on purpose:
//! it loads foreign code, may wait for a directory server that is part of what is being restored, and answers
//! differently from run to run. Users of a directory service travel by number.

use std::collections::HashMap;
use std::path::Path;

type Name = Box<[u8]>;

#[derive(Debug, Default)]
struct Table {
    names: HashMap<u32, Name>,
    numbers: HashMap<Name, u32>,
}

impl Table {
    /// Both files have the name in the first field and the number in the third; the first line for a name or
    /// a number counts, as it does for the system.
    fn parse(text: &[u8]) -> Table {
        let mut table = Table::default();
        for line in text.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let number = str::from_utf8(number).ok().and_then(|digits| digits.parse::<u32>().ok());
            // `+` and `-` lines belong to NIS.
            let Some(number) = number.filter(|_| !name.is_empty() && !b"+-#".contains(&name[0])) else {
                continue;
            };
            table.names.entry(number).or_insert_with(|| name.into());
            table.numbers.entry(name.into()).or_insert(number);
        }
        table
    }
}

/// The users and groups of a host.
#[derive(Debug, Default)]
pub struct Accounts {
    users: Table,
    groups: Table,
}

impl Accounts {
    /// Reads the accounts of this host; a missing file has none.
    pub fn of_this_host() -> Accounts {
        Accounts::in_folder(Path::new("/etc"))
    }

    /// Reads `passwd` and `group` in a folder.
    pub fn in_folder(folder: &Path) -> Accounts {
        let read = |name| std::fs::read(folder.join(name)).unwrap_or_default();
        Accounts::parse(&read("passwd"), &read("group"))
    }

    /// Takes the text of both files.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Accounts {
        Accounts { users: Table::parse(passwd), groups: Table::parse(group) }
    }

    /// The name of a user.
    pub fn user(&self, uid: u32) -> Option<&[u8]> {
        self.users.names.get(&uid).map(|name| &**name)
    }

    /// The name of a group.
    pub fn group(&self, gid: u32) -> Option<&[u8]> {
        self.groups.names.get(&gid).map(|name| &**name)
    }

    /// The number of a user.
    pub fn uid(&self, name: &[u8]) -> Option<u32> {
        self.users.numbers.get(name).copied()
    }

    /// The number of a group.
    pub fn gid(&self, name: &[u8]) -> Option<u32> {
        self.groups.numbers.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_both_ways() {
        let passwd =
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\nvmail:x:5000:5000\n+nis:x:9:9\nbad:x:-1\n\xff:x:7";
        let accounts = Accounts::parse(passwd, b"mail:x:8:a,b\n");
        assert_eq!(accounts.user(0), Some(&b"root"[..]));
        assert_eq!(accounts.uid(b"toor"), Some(0));
        assert_eq!(accounts.uid(b"vmail"), Some(5000));
        assert_eq!(accounts.user(7), Some(&b"\xff"[..]));
        assert_eq!((accounts.user(9), accounts.uid(b"bad")), (None, None));
        assert_eq!((accounts.group(8), accounts.gid(b"mail")), (Some(&b"mail"[..]), Some(8)));
        assert_eq!(Accounts::of_this_host().user(0), Some(&b"root"[..]));
    }
}
