//! The archive format of an initramfs: cpio in its "newc" variant (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). Archives may follow each other in one file, and later entries replace earlier ones.

use crate::tree::{Node, Tree};

/// The tree as an archive, directories before what they contain.
pub fn archive(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (path, node)) in (1..).zip(tree.nodes()) {
        let (mode, device, content): (u32, (u32, u32), &[u8]) = match node {
            Node::Dir { mode } => (0o040000 | mode, (0, 0), &[]),
            Node::File { mode, content } => (0o100000 | mode, (0, 0), content),
            Node::Symlink { target } => (0o120777, (0, 0), target.as_bytes()),
            Node::Char { mode, major, minor } => (0o020000 | mode, (*major, *minor), &[]),
        };
        entry(&mut out, number, path, mode, device, content);
    }
    entry(&mut out, 0, "TRAILER!!!", 0, (0, 0), &[]);
    // Linux finds a following archive anywhere on a 4-byte boundary; 512 is what cpio programs pad to.
    pad(&mut out, 512);
    out
}

fn entry(out: &mut Vec<u8>, inode: u32, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let links = if mode & 0o170000 == 0o040000 { 2 } else { 1 };
    let fields = [
        inode,
        mode,
        0, // uid
        0, // gid
        links,
        0, // mtime: the same input gives the same archive
        content.len() as u32,
        0, // device that holds the file
        0,
        device.0,
        device.1,
        name.len() as u32 + 1,
        0, // checksum, unused in this variant
    ];
    out.extend_from_slice(b"070701");
    fields.iter().for_each(|field| out.extend_from_slice(format!("{field:08X}").as_bytes()));
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(content);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_format_says() {
        let mut tree = Tree::default();
        tree.file("etc/motd", 0o644, b"hello".to_vec());
        tree.symlink("bin", "usr/bin");
        let archive = archive(&tree);
        assert_eq!(archive.len() % 512, 0);
        let text = String::from_utf8_lossy(&archive);
        // bin sorts first: a symbolic link, mode 0120777, with its target as content.
        assert!(text.starts_with("07070100000001 0000A1FF".replace(' ', "").as_str()), "{}", &text[..40]);
        let motd = archive.windows(9).position(|w| w == b"etc/motd\0").expect("the file is there");
        assert_eq!(motd % 4, 110 % 4, "a name follows its 110-byte header");
        let content = (motd + 9).next_multiple_of(4);
        assert_eq!(&archive[content..content + 5], b"hello");
        assert!(text.contains("TRAILER!!!"));
    }

    #[test]
    fn the_hosts_cpio_agrees() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        if !crate::shell::exists("cpio") {
            return; // nothing to agree with
        }
        let mut tree = Tree::default();
        tree.file("a/b", 0o600, vec![7; 10]);
        tree.symlink("a/link", "b");
        let child = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("cpio starts");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(&archive(&tree)); // cpio stops reading at the trailer
        drop(stdin);
        let listing = child.wait_with_output().expect("cpio ends").stdout;
        assert_eq!(String::from_utf8_lossy(&listing), "a\na/b\na/link\n");
    }
}
