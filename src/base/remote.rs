//! File systems that another machine, or a program, keeps: it sets the times, tells of no change, and may show late what
//! others did there.

/// Their types, as `statfs` numbers them.
const TYPES: [u32; 14] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE: sshfs, GlusterFS, MooseFS, ...
    0x00c3_6400, // Ceph
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x0102_1997, // 9P
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
];

/// Is a file system of this type one of them?
pub fn is_remote(file_system_type: u32) -> bool {
    TYPES.contains(&file_system_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_from_disks() {
        let (nfs, ext4, tmpfs) = (0x6969, 0xef53, 0x0102_1994);
        assert!(is_remote(nfs) && !is_remote(ext4) && !is_remote(tmpfs));
    }
}
