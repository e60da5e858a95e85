//! The flattened device tree, read in place. Source: Devicetree Specification 0.4, chapter 5.
//!
//! An own reader of two hundred lines: it works before the heap does, in one pass, and the crates for it
//! are either unmaintained or under another licence. Damaged trees end the walk early, they do not panic.

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// A device tree in memory.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    bytes: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The NUL-terminated text at `at`.
fn text_at(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&b| b == 0)?;
    core::str::from_utf8(&rest[..end]).ok()
}

impl<'a> Tree<'a> {
    /// The tree at an address, if there is one.
    ///
    /// # Safety
    /// 1. What `start` points to is readable for as many bytes as its header says, and never changes.
    pub unsafe fn at(start: *const u8) -> Option<Tree<'a>> {
        // SAFETY: 1. the caller's obligation.
        let header = unsafe { core::slice::from_raw_parts(start, 40) };
        if be32(header, 0)? != MAGIC {
            return None;
        }
        // SAFETY: 1. the caller's obligation.
        let bytes = unsafe { core::slice::from_raw_parts(start, be32(header, 4)? as usize) };
        let strings = bytes.get(be32(bytes, 12)? as usize..)?;
        let structure = bytes.get(be32(bytes, 8)? as usize..)?;
        Some(Tree { bytes, structure, strings })
    }

    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The memory reservation block: address, bytes.
    pub fn reservations(self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let mut at = be32(self.bytes, 16).unwrap_or(u32::MAX) as usize;
        core::iter::from_fn(move || {
            let entry = (be64(self.bytes, at)?, be64(self.bytes, at + 8)?);
            at += 16;
            (entry.1 != 0).then_some(entry)
        })
    }

    /// All nodes, parents before children.
    pub fn nodes(self) -> Nodes<'a> {
        Nodes { tree: self, at: 0, depth: 0, levels: [Level::ROOT; DEPTH_MAX] }
    }
}

/// Deeper nodes are not looked at; real trees have five levels.
const DEPTH_MAX: usize = 12;

#[derive(Clone, Copy)]
struct Level<'a> {
    name: &'a str,
    address_cells: u32,
    size_cells: u32,
}

impl Level<'_> {
    const ROOT: Level<'static> = Level { name: "", address_cells: 2, size_cells: 1 };
}

/// The walk over the nodes.
pub struct Nodes<'a> {
    tree: Tree<'a>,
    at: usize,
    depth: usize,
    levels: [Level<'a>; DEPTH_MAX],
}

/// One node.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: Tree<'a>,
    /// With its unit address: `cpu@0`.
    pub name: &'a str,
    /// The parent's name; empty for children of the root.
    pub parent: &'a str,
    /// Where its properties start.
    at: usize,
    address_cells: u32,
    size_cells: u32,
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            match be32(self.tree.structure, self.at)? {
                BEGIN_NODE => return self.begin(),
                END_NODE => {
                    self.depth = self.depth.checked_sub(1)?;
                    self.at += 4;
                }
                PROP => self.at = property_end(self.tree.structure, self.at)?,
                NOP => self.at += 4,
                _ => return None,
            }
        }
    }
}

/// The position after the property at `at`.
fn property_end(structure: &[u8], at: usize) -> Option<usize> {
    let len = be32(structure, at + 4)? as usize;
    Some((at + 12).checked_add(len)?.next_multiple_of(4))
}

impl<'a> Nodes<'a> {
    fn begin(&mut self) -> Option<Node<'a>> {
        let name = text_at(self.tree.structure, self.at + 4)?;
        let parent = self.levels.get(self.depth.saturating_sub(1)).copied()?;
        let at = (self.at + 4 + name.len() + 1).next_multiple_of(4);
        let node = Node {
            tree: self.tree,
            name,
            parent: if self.depth == 0 { "" } else { parent.name },
            at,
            address_cells: parent.address_cells,
            size_cells: parent.size_cells,
        };
        let level = Level {
            name,
            address_cells: node.cell("#address-cells").unwrap_or(2),
            size_cells: node.cell("#size-cells").unwrap_or(1),
        };
        *self.levels.get_mut(self.depth)? = level;
        self.depth += 1;
        self.at = at;
        Some(node)
    }
}

impl<'a> Node<'a> {
    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        let structure = self.tree.structure;
        let mut at = self.at;
        loop {
            match be32(structure, at)? {
                PROP => {
                    let end = property_end(structure, at)?;
                    if text_at(self.tree.strings, be32(structure, at + 8)? as usize)? == name {
                        let len = be32(structure, at + 4)? as usize;
                        return structure.get(at + 12..at + 12 + len);
                    }
                    at = end;
                }
                NOP => at += 4,
                _ => return None,
            }
        }
    }

    /// A property of one cell.
    pub fn cell(&self, name: &str) -> Option<u32> {
        be32(self.property(name)?, 0)
    }

    /// A property of one number, of one or two cells.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.property(name)?;
        if value.len() >= 8 { be64(value, 0) } else { be32(value, 0).map(u64::from) }
    }

    /// A property of cells.
    pub fn cells(&self, name: &str) -> impl Iterator<Item = u32> + use<'a> {
        let value = self.property(name).unwrap_or(&[]);
        value.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The first text of a property.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        text_at(self.property(name)?, 0)
    }

    /// All texts of a property.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let value = self.property(name).unwrap_or(&[]);
        value.split(|&b| b == 0).filter_map(|t| core::str::from_utf8(t).ok()).filter(|t| !t.is_empty())
    }

    pub fn is_compatible(&self, with: &str) -> bool {
        self.texts("compatible").any(|text| text == with)
    }

    /// Not disabled.
    pub fn is_okay(&self) -> bool {
        self.text("status").is_none_or(|status| status == "okay" || status == "ok")
    }

    /// The address ranges of `reg` (address, bytes), as the parent counts them. Buses between the node and
    /// the root are taken to translate one to one, which they do on the machines supported.
    pub fn reg(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let (address, size) = (self.address_cells as usize, self.size_cells as usize);
        let value = self.property("reg").unwrap_or(&[]);
        value.chunks_exact((4 * (address + size)).max(4)).map(move |entry| {
            let number = |from: usize, cells: usize| {
                entry[4 * from..4 * (from + cells)].iter().fold(0u64, |n, &b| n << 8 | u64::from(b))
            };
            (number(0, address), number(address, size))
        })
    }

    /// The name without its unit address.
    pub fn base_name(&self) -> &'a str {
        self.name.split('@').next().unwrap_or(self.name)
    }
}

/// The hart id of a `cpu` node that can run the kernel.
pub fn cpu_hart(node: &Node) -> Option<usize> {
    let is_cpu = node.parent == "cpus" && node.text("device_type") == Some("cpu");
    // Without an MMU it is a monitor core.
    if !is_cpu || !node.is_okay() || node.text("mmu-type").is_none_or(|mmu| mmu == "riscv,none") {
        return None;
    }
    node.reg().next().map(|(hart, _)| hart as usize)
}
