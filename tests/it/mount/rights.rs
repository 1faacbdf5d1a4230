//! Who may look.

use std::path::Path;
use std::process::Command;

use super::{Mount, back_up, private};
use crate::imap::NOBODY;
use crate::support::{TestEnv, is_root, run, skipped, tool};
use crate::tree::TreeFixture;

/// Reads or lists as `nobody`; true when that works.
fn nobody_may(program: &str, path: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
    run(command.arg(program).arg(path)).code == 0
}

#[test]
fn others_see_what_modes_and_access_lists_let_them() {
    let name = "others_see_what_modes_and_access_lists_let_them";
    if !is_root() || !tool("setpriv", ["--version"]) {
        return skipped(name, "only root, with setpriv, can be somebody else");
    }
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("mail"));
    private(&tree, "secret", 0o600);
    private(&tree, "open", 0o644);
    let own = private(&tree, "own", 0o600);
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    private(&tree, "closed/inside", 0o644);
    crate::tree::set_mode(&tree.path("closed"), 0o700);
    let listed = private(&tree, "listed", 0o600);
    // The group's bits are the mask of the list, and say nothing of the group.
    let masked = private(&tree, "masked", 0o600);
    std::os::unix::fs::chown(&masked, Some(0), Some(NOBODY)).unwrap();
    let acl = |entry: &str, path: &Path| tool("setfacl", ["-m".as_ref(), entry.as_ref(), path.as_os_str()]);
    let acls = acl("u:65534:r", &listed) && acl("u:1234:rw,g::-,m::rw", &masked);
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let Some(mount) = Mount::stand(name, &env, &[]) else { return };
    assert!(!nobody_may("cat", &mount.path("snapshots/latest/mail/open")));
    mount.end().expect(0);
    let mount = Mount::stand(name, &env, &["--allow-other"]).unwrap();
    let root = mount.path("snapshots/latest/mail");
    for (file, may) in [("open", true), ("own", true), ("secret", false), ("closed/inside", false)] {
        assert_eq!(nobody_may("cat", &root.join(file)), may, "{file}");
    }
    assert!(nobody_may("ls", &mount.path("snapshots")));
    assert!(!nobody_may("ls", &mount.path("users")), "who has mail here is nobody's business");
    if acls {
        assert!(nobody_may("cat", &root.join("listed")));
        assert!(!nobody_may("cat", &root.join("masked")));
    } else {
        skipped(name, "ACLs: setfacl is missing or the file system refuses");
    }
    assert!(!tool("touch", [root.join("new").as_os_str()]), "it is read-only");
    mount.end().expect(0);
}

#[test]
fn devices_and_setuid_bits_are_shown_and_do_nothing() {
    let name = "devices_and_setuid_bits_are_shown_and_do_nothing";
    if !is_root() {
        return skipped(name, "only root makes devices");
    }
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("system"));
    let zero = tree.path("zero");
    if !tool("mknod", [zero.to_str().unwrap(), "c", "1", "5"]) {
        return skipped(name, "devices cannot be made here");
    }
    private(&tree, "setuid", 0o4755);
    back_up(&env, "system", "/system", &tree.root, 0);
    let Some(mount) = Mount::stand(name, &env, &[]) else { return };
    let shown = mount.path("snapshots/latest/system");
    let ignore = crate::tree::Ignore { links: true, ..Default::default() };
    crate::tree::assert_same(&tree.root, &shown, ignore);
    assert!(std::fs::File::open(shown.join("zero")).is_err(), "the device works");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(mount.place.to_str().unwrap())).unwrap();
    for option in ["ro", "nodev", "nosuid"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option}: {line}");
    }
    mount.end().expect(0);
}

#[test]
fn the_log_tells_who_mounted_and_who_came_to_whose_mail() {
    let name = "the_log_tells_who_mounted_and_who_came_to_whose_mail";
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for user in ["anna", "carl"] {
        tree.maildir(&format!("example.org/{user}/Maildir"), 0..2);
        tree.maildir(&format!("example.org/{user}/Maildir/.Old"), 2..3);
    }
    tree.file("plain/notes", b"nobody's mail");
    back_up(&env, "mail", "/var/vmail", &tree.root, 0);
    let Some(mount) = Mount::stand(name, &env, &[]) else { return };
    let log = || -> Vec<serde_json::Value> {
        let told = env.mailark(["audit", "--json"]).expect(0).stdout;
        let lines = told.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["command"] == "mount").collect()
    };
    assert!(tool("ls", [mount.path("users").as_os_str()]));
    assert!(tool("cat", [mount.path("snapshots/latest/var/vmail/plain/notes").as_os_str()]));
    let begun = log();
    assert_eq!((begun.len(), &begun[0]["mail_of"]), (1, &serde_json::json!([])), "{begun:?}");
    assert_eq!(begun[0]["query"]["words"][0], "mount");
    // By whatever way, and once.
    for _ in 0..2 {
        assert!(tool("ls", [mount.path("users/anna@example.org/latest/.Old/cur").as_os_str()]));
        assert!(tool(
            "ls",
            ["-R".as_ref(), mount.path("snapshots/latest/var/vmail/example.org/anna").as_os_str()]
        ));
    }
    let seen = log();
    assert_eq!((seen.len(), &seen[1]["mail_of"][0]), (2, &"anna@example.org".into()), "{seen:?}");
    assert_eq!(seen[1]["uid"], rustix::process::getuid().as_raw());
    assert!(tool("ls", [mount.path("hosts").as_os_str()]));
    let carl = mount.path("snapshots/latest/var/vmail/example.org/carl/Maildir/cur");
    assert!(tool("ls", [carl.as_os_str()]));
    assert_eq!(log().len(), 3);
    let told = env.mailark(["audit"]).expect(0).stdout;
    assert!(told.contains("saw mail of: carl@example.org"), "{told}");
    mount.end().expect(0);
}
